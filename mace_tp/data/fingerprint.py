"""What a data set holds, as a digest: two trainings can tell whether they have seen the same."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from mace_tp.data.configuration import Configuration, LabelWeights


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Equal for equal sets of labelled structures, wherever they were read and in whatever order."""

    configurations: int
    sha256: str


def fingerprint(configurations: Sequence[Configuration]) -> Fingerprint:
    """Of structures and labels as their files hold them, so that neither cutoff, E0s nor the machine matter."""
    digests = sorted(_digest(configuration) for configuration in configurations)
    return Fingerprint(len(digests), hashlib.sha256(b"".join(digests)).hexdigest())


def _digest(configuration: Configuration) -> bytes:
    digest = hashlib.sha256()
    structure = {"numbers": configuration.atomic_numbers, "positions": configuration.positions, "cell": configuration.cell}
    # Data without weights keep the digest that they had before there were any.
    weights = None if configuration.weights == LabelWeights() else configuration.weights
    for name, value in {**structure, "pbc": configuration.pbc, **configuration.labels, "weights": weights}.items():
        if value is not None:
            digest.update(name.encode() + np.ascontiguousarray(value, dtype=np.float64).tobytes())
    return digest.digest()
