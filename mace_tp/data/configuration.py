"""One labelled structure as read from a file, and the keys under which its labels lie."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class LabelWeights(NamedTuple):
    """Factors of a configuration's terms of the loss, positive or zero; a label of weight zero is as good as none."""

    energy: float = 1.0
    forces: float = 1.0
    stress: float = 1.0


@dataclasses.dataclass(frozen=True)
class FileFrame:
    """Where a configuration was read, and what else lies there, so that it can be written again with nothing lost."""

    path: str
    index: int  # counts every frame of the file from 0, as ASE indexes them
    results: Mapping[str, Any]  # labels under ASE's own names
    info: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]  # [atoms, ...] each; numbers and positions are not among them
    constraints: Sequence[Any]  # as ASE has them


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Atoms with the labels that their file holds. A label that is absent is None."""

    atomic_numbers: np.ndarray  # [atoms], int: Z
    positions: np.ndarray  # [atoms, 3], Å
    cell: np.ndarray  # [3, 3], Å, rows are lattice vectors; a row may be zero where not periodic
    pbc: tuple[bool, bool, bool]
    energy: float | None  # eV, total
    forces: np.ndarray | None  # [atoms, 3], eV/Å
    stress: np.ndarray | None  # [3, 3], eV/Å³, symmetric, ASE's sign
    config_type: str  # the file's own tag; empty where there is none
    source: str  # where it was read, such as `train.xyz frame 12`; frames count from 0, as ASE indexes them
    frame: FileFrame | None = None  # None: it was not read from a file
    weights: LabelWeights = LabelWeights()

    @property
    def num_atoms(self) -> int:
        return len(self.atomic_numbers)

    @property
    def labels(self) -> dict[str, float | np.ndarray | None]:
        """The labels by the names of the fields of `LabelKeys`."""
        return {"energy": self.energy, "forces": self.forces, "stress": self.stress}


@dataclasses.dataclass(frozen=True)
class LabelKeys:
    """The names of the labels in a file; the defaults are ASE's own words."""

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"
