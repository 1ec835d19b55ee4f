"""Files of a run directory: `config.yaml`, which `mace-tp train --config` reads, and `metrics.jsonl`."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mace_tp.errors import InputError


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Write a configuration with every key, completely or not at all. A `${` in a value, such as a path, is written as text."""
    with replacing(path) as part:
        part.write_text(yaml.safe_dump(_each_text(values, _escaped), sort_keys=False, allow_unicode=True), encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write into. It takes the place of `path` at the end, or is removed after an exception."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_config(path: Path) -> Any:
    """The values that were given to `write_config`, or the content of any other YAML file.

    Raises:
        OSError, UnicodeDecodeError, yaml.YAMLError: the file cannot be read, or is not YAML.
    """
    return _each_text(yaml.safe_load(path.read_text(encoding="utf-8")), _plain)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _escaped(text: str) -> str:
    """A backslash before `${` makes it text for OmegaConf, and two backslashes before that are one."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def _plain(text: str) -> str:
    return re.sub(r"(\\*)\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", text)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of a nested configuration by their full names, such as `loss.stage_two.start`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return flat


Record = Mapping[str, Any]
"""A line of `metrics.jsonl`: {name: number}; None where a number was not finite."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, in order of epochs.

    The unfinished last line of a killed run is left out. Epochs that a resumed run repeated replace the earlier ones.

    Raises:
        InputError: there is no such file, or a line other than the last is not a JSON object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; a run directory holds a metrics.jsonl") from error
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is None:
            if number < len(lines):
                raise InputError(f"{path}, line {number}: not a JSON object; metrics.jsonl has one per line")
            continue
        while records and records[-1].get("epoch", -1) >= record.get("epoch", np.inf):
            records.pop()
        records.append(record)
    return records


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def record_values(metrics: Sequence[Record], key: str) -> np.ndarray:
    """One number per record [records]; NaN if absent."""
    return np.array([np.nan if record.get(key) is None else record[key] for record in metrics], dtype=float)


def second_stage(metrics: Sequence[Record]) -> int | None:
    """The first epoch of stage two; None if there is none."""
    return next((record["epoch"] for record in metrics if (record.get("stage") or 1) > 1), None)


def training_seconds(metrics: Sequence[Record]) -> np.ndarray:
    """Cumulated seconds of updates and validations, without compilations, at the end of every epoch [records]; NaN if unknown."""
    return np.cumsum(record_values(metrics, "epoch_seconds") + np.nan_to_num(record_values(metrics, "valid_seconds")))
