"""One labelled structure as read from a file, and the keys of its labels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class LabelWeights(NamedTuple):
    """Factors of a configuration's terms in the loss, positive or zero. A label of weight zero is not used."""

    energy: float = 1.0
    forces: float = 1.0
    stress: float = 1.0


@dataclasses.dataclass(frozen=True)
class FileFrame:
    """Place and full content of a frame in its file, so that it can be written again without loss."""

    path: str
    index: int  # of the frame in the file, from 0, as in ASE
    results: Mapping[str, Any]  # labels under ASE's own names
    info: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]  # [atoms, ...] each, without numbers and positions
    constraints: Sequence[Any]  # ASE's objects


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Atoms with the labels of their file. An absent label is None."""

    atomic_numbers: np.ndarray  # [atoms], int: Z
    positions: np.ndarray  # [atoms, 3], Å
    cell: np.ndarray  # [3, 3], Å, rows are lattice vectors; a row may be zero where not periodic
    pbc: tuple[bool, bool, bool]
    energy: float | None  # eV, total
    forces: np.ndarray | None  # [atoms, 3], eV/Å
    stress: np.ndarray | None  # [3, 3], eV/Å³, symmetric, ASE's sign
    config_type: str  # the file's own tag; empty if it has none
    source: str  # for messages, such as `train.xyz frame 12`; frames count from 0, as in ASE
    frame: FileFrame | None = None  # None: not read from a file
    weights: LabelWeights = LabelWeights()

    @property
    def num_atoms(self) -> int:
        return len(self.atomic_numbers)

    @property
    def labels(self) -> dict[str, float | np.ndarray | None]:
        """The labels by the field names of `LabelKeys`."""
        return {"energy": self.energy, "forces": self.forces, "stress": self.stress}


@dataclasses.dataclass(frozen=True)
class LabelKeys:
    """The names of the labels in a file; the defaults are ASE's own names."""

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"
