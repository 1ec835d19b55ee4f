"""What a training is made of, kept in its checkpoints: a resumed one must be made of the same."""

import collections
import dataclasses
import json
import logging
from typing import Any

from mace_tp.config import Config
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.elements import symbol
from mace_tp.data.fingerprint import digest_of_graphs
from mace_tp.errors import InputError
from mace_tp.run_directory import flatten
from mace_tp.training.datasets import Datasets

_LOG = logging.getLogger("mace_tp")
# Keys that may change when a training is resumed, which has weights of its own.
_FREE = (
    "trainer.checkpoint_minutes", "trainer.keep_every", "trainer.resume", "logger.", "device", "kernel", "run_dir", "model.init_from",
    "data.theory",
)  # fmt: skip
# Keys that may, too, but then the learning rate and the end are others.
_TOLD = ("trainer.",)
# Keys that matter only by the data that they give, so that the same files may be named by another path.
_DATA = {"data.train": "training", "data.valid": "validation", "data.valid_fraction": "validation", "data.test": "test"}
_ENERGIES = ("data.isolated_atoms", "data.atomic_energies")
# Name of the digest of structures and labels. Older versions wrote `sha256`, which depended on the neighbor lists, too.
_DIGEST = "structures_sha256"
# Keys on which the batches of an epoch depend, besides the training data.
_OF_BATCHES = ("data.batch_size", "seed")
# Keys on which a validation loss depends, besides the validation data.
_OF_VALIDATION_LOSS = ("loss.", "model.", "tensor_product.", "dtype")
# eV; E0s that are closer are the same.
SAME_ENERGY = 1e-6


def origin_of(config: Config, datasets: Datasets, statistics: DatasetStatistics, environment: dict[str, Any]) -> dict[str, Any]:
    """Configuration, data, E0s as configured, the model's statistics and versions, as JSON."""
    data = {"training": datasets.train, "validation": datasets.valid, "test": [graph for test in datasets.test.values() for graph in test]}
    origin = {
        "config": dataclasses.asdict(config),
        "data": {name: {"configurations": len(graphs), _DIGEST: digest_of_graphs(graphs)} for name, graphs in data.items()},
        "atomic_energies": {symbol(number): energy for number, energy in datasets.configured_energies.items()},
        "statistics": statistics.to_dict(),
        "environment": environment,
    }
    return json.loads(json.dumps(origin))


def as_begun(config: Config, before: dict[str, Any] | None) -> Config:
    """The configuration of a training that goes on, with what its first line said of its beginning and this one leaves out.

    Its weights count on the statistics of the model that it began with (`model.init_from`), and its card tells `data.theory`.

    Args:
        config: of the line that continues it.
        before: origin of the checkpoint; None where there is none.
    """
    if before is None:
        return config
    first = flatten(before["config"])
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, init_from=config.model.init_from or first.get("model.init_from")),
        data=dataclasses.replace(config.data, theory=config.data.theory or first.get("data.theory")),
    )


def require_same(before: dict[str, Any], now: dict[str, Any], *, changes_are_wanted: bool) -> list[str]:
    """Compare the origin of a checkpoint with that of the training that wants to continue it.

    Returns:
        What is different, by key.

    Raises:
        InputError: lists what is different, unless changes are wanted; then they are logged.
    """
    keys = _changed_keys(before, now)
    refused = [change for key, change in keys.items() if not key.startswith(_TOLD)]
    refused += _changed_data(before["data"], now["data"]) + _changed_energies(before, now)
    told = [change for key, change in keys.items() if key.startswith(_TOLD)]
    if refused and not changes_are_wanted:
        changes = "; ".join(refused + told)
        raise InputError(f"trainer.resume=auto: the run began with other settings ({changes}); trainer.resume=anyway takes the new ones")
    if refused or told:
        _LOG.warning("resume: %s", "; ".join(refused + told))
    return refused + told


def losses_compare(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a validation loss of the training that wrote a checkpoint can be compared with one of the training that continues it."""
    changed = _changed_keys(before, now)
    return _are_same(before, now, "validation") and not any(key.startswith(_OF_VALIDATION_LOSS) for key in changed)


def batches_are_same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether an epoch of the training that continues a checkpoint has the batches of the one that wrote it."""
    return _are_same(before, now, "training") and not any(key in _OF_BATCHES for key in _changed_keys(before, now))


def _are_same(before: dict[str, Any], now: dict[str, Any], name: str) -> bool:
    """Whether two trainings have the same data; false where the checkpoint does not tell."""
    return before["data"].get(name) == now["data"][name]


def _changed_keys(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What each key was and is, of those that matter and are not the same."""
    # A version that did not know a key did what its default does.
    known = flatten(dataclasses.asdict(Config()))
    old, new = (collections.ChainMap(flatten(origin["config"]), known) for origin in (before, now))
    same = {name for name in now["data"] if _are_same(before, now, name)}
    free = _FREE if _changed_energies(before, now) else (*_FREE, *_ENERGIES)
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key) and not key.startswith(free) and _DATA.get(key) not in same)
    return {key: f"{key} was {old.get(key)}, is {new.get(key)}" for key in keys}


def _changed_data(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    changes = []
    for name, data in now.items():
        then = before.get(name, data)  # a version that did not know the test data compared their paths alone
        is_other = then[_DIGEST] != data[_DIGEST] if _DIGEST in then else then["configurations"] != data["configurations"]
        if is_other:
            counts = f"{then['configurations']} configurations then, {data['configurations']} now"
            changes.append(f"the {name} data are others: {counts}")
    return changes


def _changed_energies(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """E0s that the configuration gives otherwise than before; the model keeps its own."""
    old, new = _energies(before), _energies(now)
    changed = [name for name in new if name in old and abs(old[name] - new[name]) > SAME_ENERGY]
    listed = ", ".join(f"{name} {old[name]:.6g} eV then, {new[name]:.6g} eV now" for name in changed)
    return [f"the E0s are others: {listed}; the model keeps those that it has"] if changed else []


def _energies(origin: dict[str, Any]) -> dict[str, float]:
    """{symbol: E0 in eV} as configured; in versions that did not note them the model's were the same."""
    if "atomic_energies" in origin:
        return origin["atomic_energies"]
    statistics = origin["statistics"]
    return dict(zip(map(symbol, statistics["atomic_numbers"]), statistics["atomic_energies"]))
