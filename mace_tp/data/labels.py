"""Energies, forces and stresses of a frame, checked and converted to one form."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mace_tp.errors import InputError

# Voigt's order xx yy zz yz xz xy, as positions in the 3×3 matrix.
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
# A stress printed with few digits is symmetric only to its last digit.
_ASYMMETRY = 1e-2


def find_label(key: str, places: tuple[Mapping[str, Any], ...]) -> Any:
    """The value under a key in the first place that has this key; None if no place has it."""
    return next((place[key] for place in places if key in place), None)


def energy_label(value: Any, key: str, source: str) -> float | None:
    """A total energy in eV; None if the value is None.

    Raises:
        InputError: not one finite number.
    """
    if value is None:
        return None
    numbers = _numbers(value, key, source)
    if numbers.size != 1:
        raise InputError(f"{source}: {key} holds {numbers.size} numbers; an energy is one number, in eV")
    _check_finite(numbers, key, source)
    return float(numbers.reshape(()))


def forces_label(value: Any, num_atoms: int, key: str, source: str) -> np.ndarray | None:
    """Forces [atoms, 3] in eV/Å; None if the value is None.

    Raises:
        InputError: the shape is wrong, or a component is not finite.
    """
    if value is None:
        return None
    forces = _numbers(value, key, source)
    if forces.shape != (num_atoms, 3):
        raise InputError(f"{source}: {key} has shape {list(forces.shape)}; forces on {num_atoms} atoms need [{num_atoms}, 3]")
    check_atoms_finite(forces, key, source)
    return forces


def stress_label(value: Any, volume: float, key: str, source: str) -> np.ndarray | None:
    """A symmetric stress [3, 3] in eV/Å³ from 6 numbers (Voigt: xx yy zz yz xz xy) or 9; None if the value is None.

    Args:
        value: the value under the key. If the key contains `virial`, the value is a virial W = -dE/dε in eV for a strain ε, the
            convention of ACEsuit's MACE, QUIP and NequIP, and the stress is -W / volume = dE/dε / volume, the convention of ASE.
        volume: of the cell, Å³.
        key: for messages.
        source: for messages.

    Raises:
        InputError: the number of components is wrong, one is not finite, the matrix is not symmetric, or a virial has no volume.
    """
    if value is None:
        return None
    numbers = _numbers(value, key, source)
    if numbers.size not in (6, 9):
        raise InputError(f"{source}: {key} holds {numbers.size} numbers; a stress has 6 (xx yy zz yz xz xy) or 9, in eV/Å³")
    _check_finite(numbers, key, source)
    matrix = stress_matrix(numbers)
    if np.abs(matrix - matrix.T).max() > _ASYMMETRY * np.abs(matrix).max():
        raise InputError(f"{source}: {key} is not symmetric; a stress must be, within {_ASYMMETRY:.0%} of its largest component")
    symmetric = (matrix + matrix.T) / 2
    if "virial" not in key.lower():
        return symmetric
    if volume <= 0:
        raise InputError(f"{source}: {key} is a virial, but the cell has no volume; the stress is -virial / volume")
    return -symmetric / volume


def stress_matrix(numbers: np.ndarray) -> np.ndarray:
    """Six numbers in Voigt's order, or nine, as a matrix [3, 3]."""
    return numbers.ravel()[_VOIGT] if numbers.size == 6 else numbers.reshape(3, 3)


def check_atoms_finite(values: np.ndarray, name: str, source: str) -> None:
    """Require finite values [atoms, ...].

    Raises:
        InputError: names the first atom whose value is not finite.
    """
    finite = np.isfinite(values)
    if not finite.all():
        atom = int(np.argwhere(~finite)[0][0])
        raise InputError(f"{source}, atom {atom}: {name} holds {values[~finite][0]}; every component must be a finite number")


def _check_finite(numbers: np.ndarray, key: str, source: str) -> None:
    finite = np.isfinite(numbers)
    if not finite.all():
        raise InputError(f"{source}: {key} holds {numbers[~finite][0]}; it must be finite; leave the label out where it is not known")


def _numbers(value: Any, key: str, source: str) -> np.ndarray:
    """The value as float64. ASE reads a key without a value as True, and a Fortran exponent or stars as text: these are no numbers."""
    if isinstance(value, int | float | list | tuple | np.ndarray | np.number):
        numbers = np.asarray(value)
        if numbers.dtype.kind in "iuf":
            return numbers.astype(np.float64)
    raise InputError(f"{source}: {key} holds {str(value)[:40]!r}, which is not a number such as -1.5 or -1.5E-03")
