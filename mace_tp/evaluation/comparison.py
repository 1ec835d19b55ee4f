"""Comparison of finished trainings: errors, costs, and differences that make the comparison doubtful."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mace_tp.errors import InputError
from mace_tp.run_directory import CHECKPOINTS, CONFIG, METRICS, RESULTS, Record, flatten, read_config, read_metrics, read_results
from mace_tp.tensor_products.notation import products_text

# Keys that may differ between the runs of a row: seeds are averaged over, and data are compared by their content.
_FREE = ("seed", "data.theory", "run_dir", "device", "logger.", "trainer.resume", "trainer.checkpoint_minutes", "trainer.keep_every")
_DATA = ("data.train", "data.valid", "data.test", "data.isolated_atoms", "data.atomic_energies")
_PRODUCT = "tensor_product."
_ENVIRONMENT = ("device", "dtype", "threads", "huge_pages", "xla_flags", "jax", "jaxlib", "mace_tp", "commit")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path
    config: dict[str, Any]  # flat: {"model.cutoff": 5.0, ...}
    records: Sequence[Record]  # of metrics.jsonl
    results: dict[str, Any] | None  # of results.json; None if the training is not finished

    @property
    def product(self) -> str:
        """The tensor product as the command line takes it, such as `cg` or `cg/spherical_grid:rank=2`."""
        return products_text(*(_site(self.config, site) for site in ("interaction", "product_basis")))

    @property
    def finished(self) -> dict[str, Any]:
        """The results of a finished run."""
        assert self.results is not None, f"{self.path} is not finished"
        return self.results

    def errors(self) -> dict[str, dict[str, float]]:
        """Errors of `valid`, and of every test file by its short name."""
        test = self.finished.get("test", {})
        return {"valid": self.finished["valid"], **dict(zip(short_paths(list(test)), test.values(), strict=True))}

    @property
    def setting(self) -> dict[str, Any]:
        """The keys that define the training, including the tensor product, without the seed."""
        kept = {key: value for key, value in self.config.items() if not key.startswith((*_FREE, *_DATA, _PRODUCT))}
        return kept | {"tensor_product": self.product}  # `cg` and `{name: cg}` are the same product


@dataclasses.dataclass(frozen=True)
class Group:
    """A row of the comparison: finished runs that differ only in their seeds."""

    name: str
    runs: tuple[Run, ...]

    @property
    def by_seed(self) -> dict[int, list[Run]]:
        """The runs of each seed. Runs with the same seed are not independent samples: they differ only by the machine."""
        found: dict[int, list[Run]] = {}
        for run in sorted(self.runs, key=lambda run: run.config["seed"]):
            found.setdefault(run.config["seed"], []).append(run)
        return found

    @property
    def seeds(self) -> list[int]:
        return list(self.by_seed)

    def values(self, *path: str) -> np.ndarray:
        """A number in `results.json`, for every run that has it."""
        return _known(_at(run.results, path) for run in self.runs)

    def errors(self, part: str, kind: str) -> np.ndarray:
        """A kind of error for every seed, from its first run. The part is `valid` or the short name of a test file."""
        return _known(_at(run.errors(), (part, kind)) for run, *_ in self.by_seed.values())


def short_paths(paths: Sequence[str]) -> list[str]:
    """The last component of every path, with the folders before it that distinguish it from the other paths."""
    parts = [Path(path).parts for path in paths]

    def tail(mine: tuple[str, ...]) -> str:
        others = [theirs for theirs in parts if theirs != mine]
        for length in range(1, len(mine)):
            if not any(theirs[-length:] == mine[-length:] for theirs in others):
                return "/".join(mine[-length:])
        return str(Path(*mine))

    return [tail(mine) for mine in parts]


def equal_seeds(groups: Sequence[Group]) -> list[str]:
    """A line for every seed that a row has more than once, with the runs, and with their errors if these differ."""
    lines = []
    for group in groups:
        for seed, runs in group.by_seed.items():
            if len(runs) > 1:
                errors = list(dict.fromkeys(_about_errors(run) for run in runs))
                same = "equal errors" if len(errors) == 1 else f"errors differ: {', '.join(errors)}"
                paths = ", ".join(str(run.path) for run in runs)
                lines.append(f"{group.name} has {len(runs)} runs with seed {seed} ({same}); errors are those of the first: {paths}")
    return lines


def find_runs(paths: Sequence[str | Path]) -> list[Run]:
    """The runs in and below the given folders, each once.

    Raises:
        InputError: a folder does not exist or has no run, or files of a run cannot be read.
    """
    runs: dict[Path, Run] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; give run directories, or folders that contain some")
        # Hydra keeps its own config.yaml under .hydra; in a run directory, checkpoints are beside it.
        found = sorted(file.parent for file in path.rglob(CONFIG) if (file.parent / CHECKPOINTS).is_dir())
        if not found:
            raise InputError(f"{path}: contains no run; a run directory has config.yaml, checkpoints/ and, when finished, results.json")
        runs |= {folder.resolve(): _read_run(folder) for folder in found}
    return list(runs.values())


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Group finished runs by their setting. A group's name is its tensor product, with the keys that distinguish groups of one product."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        if run.results is not None:
            members.setdefault(json.dumps(run.setting, sort_keys=True), []).append(run)
    groups = list(members.values())
    return [Group(_name(group[0], [other[0] for other in groups]), tuple(group)) for group in groups]


def differences_of_data(groups: Sequence[Group]) -> list[str]:
    """A line for every part of the data that is known to differ between runs, whose errors then cannot be compared."""
    lines = []
    for part in ("train_and_valid", "test", "atomic_energies"):
        values = {run.path: _about_data(run, part) for group in groups for run in group.runs}
        if len({*values.values()}) > 1:
            lines.append(f"{part.replace('_', ' ')} data differ: {_listed(values)}")
    return lines


def other_differences(groups: Sequence[Group]) -> list[str]:
    """A line for every configuration key, seed and entry of the environment that differs between rows."""
    rows = {group.name: group.runs for group in groups}
    keys = sorted({key for group in groups for run in group.runs for key in run.setting if key != "tensor_product"})
    lines = [f"{key} differs: {text}" for key in keys if (text := _by_row(rows, lambda run, key=key: run.setting.get(key)))]
    seeds = {group.name: group.seeds for group in groups}
    if len({str(value) for value in seeds.values()}) > 1:
        lines.append(f"seeds differ: {'; '.join(f'{name} {value}' for name, value in seeds.items())}")
    for key in _ENVIRONMENT:
        if text := _by_row(rows, lambda run, key=key: _at(run.results, ("environment", key))):
            lines.append(f"{key} differs: {text}")
    return lines


def find_baseline(groups: Sequence[Group], name: str | None) -> Group | None:
    """The reference row: the named one, else `cg`, else none.

    Raises:
        InputError: there is no row of that name; lists the names.
    """
    wanted = (name or "cg").replace(" / ", "/")
    found = next((group for group in groups if group.name == wanted), None)
    if name is not None and found is None:
        raise InputError(f"--baseline {name}: no such row; there are {', '.join(group.name for group in groups)}")
    return found


def _read_run(folder: Path) -> Run:
    config = read_config(folder / CONFIG)
    if not isinstance(config, dict) or "seed" not in config:
        raise InputError(f"{folder / CONFIG}: not the configuration of a run; it has no seed")
    records = read_metrics(folder / METRICS) if (folder / METRICS).exists() else []
    return Run(folder, flatten(config), records, read_results(folder / RESULTS))


def _site(config: Mapping[str, Any], site: str) -> Any:
    """A tensor product: a name, or a mapping with its options."""
    prefix = f"{_PRODUCT}{site}."
    options = {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
    return options or config.get(f"{_PRODUCT}{site}")


def _name(run: Run, others: Sequence[Run]) -> str:
    """The tensor product, and the keys in which another row of the same product differs. Paths are shortened to the parts that differ."""
    same = [other.setting for other in others if other.product == run.product]
    keys = sorted({key for setting in same for key in setting.keys() | run.setting.keys() if setting.get(key) != run.setting.get(key)})
    values = {key: _short_value(run.setting.get(key), [setting.get(key) for setting in same]) for key in keys}
    return ", ".join([run.product, *(f"{key}={value}" for key, value in values.items())])


def _short_value(value: Any, values: Sequence[Any]) -> str:
    """A configuration value as text; a path is shortened to the part that distinguishes it from those of the other rows."""
    paths = list(dict.fromkeys(text for text in values if isinstance(text, str) and "/" in text))
    return dict(zip(paths, short_paths(paths), strict=True))[value] if value in paths else str(value)


def _about_data(run: Run, part: str) -> str:
    """A text that identifies the content of a part of the data, whatever the file names; `unknown` if the run did not record it."""
    value = _at(run.results, ("data", part))
    if value is None:
        return "unknown"
    if part == "test":
        return ", ".join(sorted(f"{test['configurations']} configurations {test['sha256'][:8]}" for test in value.values())) or "none"
    if part == "atomic_energies":
        return ", ".join(f"{symbol} {energy:.6f}" for symbol, energy in sorted(value.items()))
    return f"{value['configurations']} configurations {value['sha256'][:8]}"


def _about_errors(run: Run) -> str:
    error = run.finished["valid"].get("force_rmse")
    return "no forces" if error is None else f"validation force RMSE {error:.2f} meV/Å"


def _known(values: Iterable[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None], float)


def _at(values: Any, path: Sequence[str]) -> Any:
    """An entry of nested dictionaries; None if it does not exist."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _by_row(rows: Mapping[str, Sequence[Run]], value_of) -> str:
    """The values of the rows, if they differ; else an empty text."""
    values = {name: sorted({str(value_of(run)) for run in runs}) for name, runs in rows.items()}
    if len({tuple(value) for value in values.values()}) < 2 and all(len(value) < 2 for value in values.values()):
        return ""
    return _listed({name: " and ".join(value) for name, value in values.items()})


def _listed(values: Mapping[Any, str]) -> str:
    """Each value once, with its owners."""
    owners: dict[str, list[str]] = {}
    for owner, value in values.items():
        owners.setdefault(value, []).append(str(owner))
    return "; ".join(f"{value or 'nothing'} in {', '.join(names)}" for value, names in owners.items())
