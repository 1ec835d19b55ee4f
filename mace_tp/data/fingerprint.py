"""SHA-256 digests of data sets, by which two trainings can tell whether they have seen the same data."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mace_tp.data.configuration import Configuration, LabelWeights
from mace_tp.data.graphs import Graph


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Equal for equal sets of labelled structures, whatever their files and their order."""

    configurations: int
    sha256: str


def fingerprint(configurations: Sequence[Configuration]) -> Fingerprint:
    """Digest of structures and labels as their files hold them, independent of cutoff, E0s and machine."""
    digests = sorted(_digest_of_configuration(configuration) for configuration in configurations)
    return Fingerprint(len(digests), hashlib.sha256(b"".join(digests)).hexdigest())


def digest_of_graphs(graphs: Sequence[Graph]) -> str:
    """Digest of structures and labels as the model sees them, in their order; files and neighbor lists do not matter.

    Checkpoints hold it: a resumed training must have the same data in the same order.
    """
    digest = hashlib.sha256()
    for graph in graphs:
        for name in ("positions", "species", "cell", "interaction_energy", "forces", "stress", "weights"):
            _update(digest, name, getattr(graph, name))
    return digest.hexdigest()


def _digest_of_configuration(configuration: Configuration) -> bytes:
    structure = {"numbers": configuration.atomic_numbers, "positions": configuration.positions, "cell": configuration.cell}
    # Data without weights keep the digest that versions without weights gave them.
    weights = None if configuration.weights == LabelWeights() else configuration.weights
    fields: Mapping[str, Any] = {**structure, "pbc": configuration.pbc, **configuration.labels, "weights": weights}
    digest = hashlib.sha256()
    for name, value in fields.items():
        _update(digest, name, None if value is None else np.asarray(value, np.float64))
    return digest.digest()


def _update(digest: "hashlib._Hash", name: str, value: Any) -> None:
    if value is not None:
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
