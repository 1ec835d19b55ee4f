"""Atomic masses."""

from collections.abc import Iterable

import numpy as np
from ase.data import atomic_masses


def masses(atomic_numbers: Iterable[int]) -> np.ndarray:
    """Standard atomic weights of elements by Z [elements], amu."""
    return atomic_masses[np.fromiter(atomic_numbers, int)]
