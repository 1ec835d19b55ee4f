"""Covalent radii, by which lengths of pairs are measured."""

from collections.abc import Iterable

import numpy as np
from ase.data import covalent_radii as _RADII


def covalent_radii(atomic_numbers: Iterable[int]) -> np.ndarray:
    """Covalent radii of elements by Z [elements], Å (Cordero et al. 2008, as in ASE; 0.2 Å where there is none)."""
    return _RADII[np.fromiter(atomic_numbers, int)]
