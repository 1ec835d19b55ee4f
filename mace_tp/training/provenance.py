"""Provenance of a training: configuration, data and versions. Checkpoints keep it, and a resumed training must have the same."""

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
# Keys that may change when a training is resumed: its weights come from the checkpoint.
_FREE = (
    "trainer.checkpoint_minutes", "trainer.keep_every", "trainer.resume", "logger.", "device", "kernel", "run_dir", "model.init_from",
    "data.theory",
)  # fmt: skip
# Keys that may also change, with a line in the log, because they alter the learning rate and the end of the training.
_TOLD = ("trainer.",)
# Keys that are compared by the data they lead to, so that the same files may have another path.
_DATA = {"data.train": "training", "data.valid": "validation", "data.valid_fraction": "validation", "data.test": "test"}
_ENERGIES = ("data.isolated_atoms", "data.atomic_energies")
# Name of the digest of structures and labels. Older versions wrote `sha256`, which also depended on the neighbor lists.
_DIGEST = "structures_sha256"
# Keys on which the batches of an epoch depend, besides the training data.
_OF_BATCHES = ("data.batch_size", "seed")
# Keys on which a validation loss depends, besides the validation data.
_OF_VALIDATION_LOSS = ("loss.", "model.", "tensor_product.", "dtype")
# Largest difference of two E0s that count as the same, eV.
SAME_ENERGY = 1e-6


def provenance_of(config: Config, datasets: Datasets, statistics: DatasetStatistics, environment: dict[str, Any]) -> dict[str, Any]:
    """Configuration, digests of the data, E0s as configured, the model's statistics and versions, as JSON."""
    data = {"training": datasets.train, "validation": datasets.valid, "test": [graph for test in datasets.test.values() for graph in test]}
    provenance = {
        "config": dataclasses.asdict(config),
        "data": {name: {"configurations": len(graphs), _DIGEST: digest_of_graphs(graphs)} for name, graphs in data.items()},
        "atomic_energies": {symbol(number): energy for number, energy in datasets.configured_energies.items()},
        "statistics": statistics.to_dict(),
        "environment": environment,
    }
    return json.loads(json.dumps(provenance))


def as_begun(config: Config, before: dict[str, Any] | None) -> Config:
    """The configuration of a training that is resumed, with keys filled in that only its first command line gave.

    These are `model.init_from`, because the weights depend on the statistics of the model that the training began with, and `data.theory`,
    for the model card.

    Args:
        config: of the command line that resumes the training.
        before: provenance in the checkpoint; None for a new training.
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
    """Compare the provenance in a checkpoint with that of the training that resumes it.

    Returns:
        The differences, in words. If changes are wanted, they are logged.

    Raises:
        InputError: there are differences, and changes are not wanted; lists them.
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
    """Whether validation losses before and after a resumption can be compared."""
    changed = _changed_keys(before, now)
    return _are_same(before, now, "validation") and not any(key.startswith(_OF_VALIDATION_LOSS) for key in changed)


def batches_are_same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the epochs have the same batches before and after a resumption."""
    return _are_same(before, now, "training") and not any(key in _OF_BATCHES for key in _changed_keys(before, now))


def _are_same(before: dict[str, Any], now: dict[str, Any], name: str) -> bool:
    """Whether a part of the data is the same before and after; false if the checkpoint did not keep it."""
    return before["data"].get(name) == now["data"][name]


def _changed_keys(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """The changes of the keys that matter, in words."""
    # A version that did not know a key behaved as its default.
    known = flatten(dataclasses.asdict(Config()))
    old, new = (collections.ChainMap(flatten(provenance["config"]), known) for provenance in (before, now))
    same = {name for name in now["data"] if _are_same(before, now, name)}
    free = _FREE if _changed_energies(before, now) else (*_FREE, *_ENERGIES)
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key) and not key.startswith(free) and _DATA.get(key) not in same)
    return {key: f"{key} was {old.get(key)}, is {new.get(key)}" for key in keys}


def _changed_data(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    changes = []
    for name, data in now.items():
        then = before.get(name, data)  # earlier versions did not keep the test data and compared only their paths
        key = _DIGEST if _DIGEST in then else "configurations"
        if then[key] != data[key]:
            counts = f"{then['configurations']} configurations then, {data['configurations']} now"
            changes.append(f"the {name} data have changed: {counts}")
    return changes


def _changed_energies(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line about E0s for which the configuration now gives other values; the model keeps its own."""
    old, new = _energies(before), _energies(now)
    changed = [name for name in new if name in old and abs(old[name] - new[name]) > SAME_ENERGY]
    listed = ", ".join(f"{name} {old[name]:.6g} eV then, {new[name]:.6g} eV now" for name in changed)
    return [f"the E0s have changed: {listed}; the model keeps its own"] if changed else []


def _energies(provenance: dict[str, Any]) -> dict[str, float]:
    """{symbol: E0 in eV} as configured. Earlier versions kept only those of the model, which were the same."""
    if "atomic_energies" in provenance:
        return provenance["atomic_energies"]
    statistics = provenance["statistics"]
    return dict(zip(map(symbol, statistics["atomic_numbers"]), statistics["atomic_energies"]))
