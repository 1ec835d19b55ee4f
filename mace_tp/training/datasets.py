"""Reads the files that the configuration names: graphs for training, validation and tests, and statistics."""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mace_tp.config import Config, DataConfig, build_label_keys
from mace_tp.data.configuration import Configuration
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.elements import symbol, symbols
from mace_tp.data.fingerprint import Fingerprint, fingerprint
from mace_tp.data.graphs import Graph, build_graphs
from mace_tp.data.readers import read_configurations, require_labels
from mace_tp.data.splits import SAME_ENERGY, is_isolated_atom, read_isolated_atoms, separate_isolated_atoms, split
from mace_tp.data.statistics import atomic_energies, compute_statistics, describe_energies
from mace_tp.data.unused import ignored_states
from mace_tp.data.weights import NO_TYPE, weigh, weightless
from mace_tp.errors import InputError

_LOG = logging.getLogger("mace_tp")


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of the data. `train_and_valid` does not depend on the seed that splits them."""

    train_and_valid: Fingerprint
    valid: Fingerprint
    test: dict[str, Fingerprint]  # by file, as given


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The graphs of a training, their statistics and fingerprints."""

    train: list[Graph]
    valid: list[Graph]
    test: dict[str, list[Graph]]  # by file, as given
    statistics: DatasetStatistics
    fingerprints: Fingerprints
    origin_of_energies: str  # a line that says where the E0s come from
    configured_energies: dict[int, float]  # {Z: E0 in eV} by data.atomic_energies; a resumed run keeps those of its statistics


def load_datasets(config: Config, start: DatasetStatistics | None = None, kept: DatasetStatistics | None = None) -> Datasets:
    """Read all files, split, and take the statistics from the training part.

    Args:
        config: the whole configuration.
        start: statistics of the model that the training starts from; None if the weights are random.
        kept: statistics of the run that is resumed, which its model keeps; None for a new run.

    Raises:
        InputError: a file, a label or a field of `data` cannot be used.
    """
    data = config.data
    type_weights = {str(name): float(weight) for name, weight in (data.config_type_weights or {}).items()}
    train, isolated = _read(_paths(data.train, "data.train"), data, _needed_labels(config), type_weights)
    if not train:
        raise InputError(f"data.train={data.train}: no configuration to train on (isolated atoms do not count)")
    if kept is not None:
        _require_elements(kept, train)
    if data.isolated_atoms is not None:
        path = Path(os.path.expanduser(data.isolated_atoms))
        isolated = isolated | read_isolated_atoms(path, build_label_keys(data), config.model.cutoff)
    # Before the split, because the elements of the model must not depend on which part a rare element falls into.
    of_model = None if start is None else dict(zip(start.atomic_numbers, start.atomic_energies, strict=True))
    configured, origin = atomic_energies(data.atomic_energies, train, isolated, of_model)
    energies = configured
    if kept is not None:
        energies = dict(zip(kept.atomic_numbers, kept.atomic_energies, strict=True))
        origin = describe_energies(energies, "kept from the run that is resumed")
    if data.valid is None:
        train, valid = split(train, data.valid_fraction, config.seed)
    else:
        valid, _ = _read(_paths(data.valid, "data.valid"), data, _needed_labels(config), type_weights)
    if not valid and data.valid is not None:
        raise InputError(f"data.valid={data.valid}: no configuration to validate on (isolated atoms do not count)")
    if not valid:
        advice = "give data.valid, or data.valid_fraction above 0" if len(train) > 1 else "give data.valid"
        raise InputError(f"no validation set, by which the best model is chosen; {advice}")
    _warn_of_unused_weights(type_weights, train + valid)
    _require_weights(train, "training", _needed_labels(config))
    _require_weights(valid, "validation", _needed_labels(config))
    numbers, values = tuple(energies), tuple(energies.values())
    cutoff = config.model.cutoff
    train_graphs = build_graphs(train, numbers, values, cutoff)
    statistics = kept or compute_statistics(train, train_graphs, energies)
    tests = {path: _read([path], data, (), {})[0] for path in (_paths(data.test, "data.test") if data.test is not None else [])}
    if empty := [path for path, frames in tests.items() if not frames]:
        raise InputError(f"data.test={empty[0]}: no configuration to test on (isolated atoms do not count)")
    for line in ignored_states([*train, *valid, *(frame for frames in tests.values() for frame in frames)]):
        _LOG.warning(line)
    return Datasets(
        train=train_graphs,
        valid=build_graphs(valid, numbers, values, cutoff),
        test={path: build_graphs(frames, numbers, values, cutoff) for path, frames in tests.items()},
        statistics=statistics,
        fingerprints=Fingerprints(
            train_and_valid=fingerprint(train + valid),
            valid=fingerprint(valid),
            test={path: fingerprint(frames) for path, frames in tests.items()},
        ),
        origin_of_energies=origin,
        configured_energies=configured,
    )


def _require_elements(kept: DatasetStatistics, train: Sequence[Configuration]) -> None:
    """Require that the model knows all elements of the data; a resumed training cannot add any.

    Raises:
        InputError: the training data have further elements; names them.
    """
    there = {int(number) for configuration in train for number in configuration.atomic_numbers}
    if unknown := sorted(there - set(kept.atomic_numbers)):
        raise InputError(
            f"trainer.resume: the training data have {symbols(unknown)}, which the run in run_dir does not know; its elements are "
            f"{symbols(kept.atomic_numbers)}; train a new model in another run_dir"
        )


def _needed_labels(config: Config) -> tuple[str, ...]:
    """Labels that the loss needs. Stress is optional: molecules have none."""
    stages = [config.loss] if config.loss.stage_two.start >= 1 else [config.loss, config.loss.stage_two]
    weights = {"energy": [stage.energy_weight for stage in stages], "forces": [stage.forces_weight for stage in stages]}
    return tuple(field for field, values in weights.items() if max(values) > 0)


def _require_weights(frames: Sequence[Configuration], part: str, need: Sequence[str]) -> None:
    """Raise an InputError if the weights of a label that the loss needs are zero everywhere."""
    if unused := [field for field in weightless(frames) if field in need]:
        places = f"config_weight or config_{unused[0]}_weight in the files, or data.config_type_weights"
        raise InputError(f"the {' and '.join(unused)} of every {part} frame has weight zero ({places})")


def _warn_of_unused_weights(type_weights: Mapping[str, float], configurations: Sequence[Configuration]) -> None:
    """Warn of weights whose type no frame has; they are probably misspelt."""
    types = {configuration.config_type or NO_TYPE for configuration in configurations}
    unused = sorted(name for name in type_weights if name != NO_TYPE and name not in types and not is_isolated_atom(name))
    if unused:
        _LOG.warning("data.config_type_weights: no frame has config_type %s; there are %s", ", ".join(unused), ", ".join(sorted(types)))


def _read(
    paths: Sequence[str], data: DataConfig, need: Sequence[str], type_weights: Mapping[str, float]
) -> tuple[list[Configuration], dict[int, float]]:
    """Configurations of all files, and the isolated atoms among them."""
    keys = build_label_keys(data)
    kept: list[Configuration] = []
    isolated: dict[int, float] = {}
    for path in paths:
        frames, atoms = separate_isolated_atoms(read_configurations(path, keys, skip_bad=data.on_bad_frame == "skip"))
        if frames:
            require_labels(frames, keys, need, path)
        kept += weigh(frames[: data.max_configurations], type_weights)
        isolated = _merged(isolated, atoms, path)
    return kept, isolated


def _merged(known: dict[int, float], more: dict[int, float], path: str) -> dict[int, float]:
    """Isolated atoms of several files.

    Raises:
        InputError: an element has two energies.
    """
    for number in known.keys() & more.keys():
        if abs(known[number] - more[number]) > SAME_ENERGY:
            both = f"{known[number]} and {more[number]} eV"
            raise InputError(f"{path}: isolated {symbol(number)} has another energy than in an earlier file ({both}); keep one")
    return known | more


def _paths(value: Any, field: str) -> list[str]:
    """One path or a list of them, each with `~` expanded."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(path, str) for path in values):
        raise InputError(f"{field}={value}: must be a path or a list of paths")
    return [os.path.expanduser(path) for path in values]
