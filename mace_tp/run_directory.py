"""Names and formats of the files of a run directory, and how any file is written: complete or not at all."""

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mace_tp.errors import InputError

CONFIG = "config.yaml"  # every key of the configuration; `mace-tp train --config` reads it
LOG = "train.log"
METRICS = "metrics.jsonl"  # one record for each epoch
CHECKPOINTS = "checkpoints"
MODEL = "model"  # the best model so far
CARD = "README.md"  # of the model
RESULTS = "results.json"  # only of a finished training
PLOTS = "plots"
NOT_FINITE = "not_finite.extxyz"  # configurations of updates that were not finite


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give a new, empty file beside `path` to write to. It becomes `path` at the end of the block, or is removed if the block raises.

    Raises:
        OSError: the file cannot be made or renamed.
    """
    # No two processes or threads share a name: several may fill a cache at the same time.
    beside = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")
    try:
        beside.touch()
        yield beside
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that a reader finds the old content or the new one, never a part.

    Raises:
        OSError: the file cannot be written; the old one is still there.
    """
    with written_atomically(path) as beside:
        beside.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of a nested configuration by their full names, such as `loss.stage_two.start`; an empty mapping counts as a value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
    return flat


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Write a configuration with every key. A `${` in a value, such as a path, is escaped, so that OmegaConf reads it as text."""
    import yaml

    write_atomically(path, yaml.safe_dump(_each_text(values, _escaped), sort_keys=False, allow_unicode=True))


def read_config(path: Path) -> Any:
    """Read the values that `write_config` was given, or any other YAML file.

    Raises:
        InputError: the file cannot be read, or is not YAML.
    """
    import yaml

    try:
        return _each_text(yaml.safe_load(path.read_text(encoding="utf-8")), _plain)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]})") from error


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _escaped(text: str) -> str:
    """OmegaConf reads `\\${` as the text `${`, and two backslashes before that as one."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def _plain(text: str) -> str:
    return re.sub(r"(\\*)\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", text)


Record = Mapping[str, Any]
"""A line of `metrics.jsonl`: {name: number}; None where a number was not finite."""


def read_metrics(path: Path) -> list[Record]:
    """Read the records of a `metrics.jsonl`, in order of epochs.

    An unfinished last line, left by a run that was killed, is skipped. An epoch that a resumed run did again replaces the first one.

    Raises:
        InputError: there is no such file, or a line other than the last is not a JSON object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; a run directory holds a {METRICS}") from error
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is None:
            if number < len(lines):
                raise InputError(f"{path}, line {number}: not a JSON object; {METRICS} has one per line")
            continue
        while records and records[-1].get("epoch", -1) >= record.get("epoch", math.inf):
            records.pop()
        records.append(record)
    return records


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def record_values(records: Sequence[Record], key: str) -> np.ndarray:
    """One number for each record [records]; NaN where it is absent."""
    return np.array([np.nan if record.get(key) is None else record[key] for record in records], dtype=float)


def second_stage(records: Sequence[Record]) -> int | None:
    """The first epoch of stage two; None if there is none."""
    return next((record["epoch"] for record in records if (record.get("stage") or 1) > 1), None)


def training_seconds(records: Sequence[Record]) -> np.ndarray:
    """Seconds of updates and validations, without compilations, up to the end of every epoch [records]; NaN where unknown."""
    return np.cumsum(record_values(records, "epoch_seconds") + np.nan_to_num(record_values(records, "valid_seconds")))


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write a `results.json`."""
    write_atomically(path, json.dumps(results, indent=2, ensure_ascii=False))


def read_results(path: Path) -> dict[str, Any] | None:
    """Read a `results.json`; None if there is none, because the training has not finished.

    Raises:
        InputError: the file is not the `results.json` of a training.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}); a training that is resumed writes it again") from error
    missing = [key for key in ("valid", "num_parameters", "environment") if not isinstance(results, dict) or key not in results]
    if missing:
        raise InputError(f"{path}: has no {missing[0]}; is it the {RESULTS} of a training?")
    return results
