"""Energies, forces and stresses as they lie in a frame, checked and brought to one form."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mace_tp.errors import InputError

# Voigt's order xx yy zz yz xz xy, as positions in the 3×3 matrix.
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
# A stress printed with few digits is symmetric only to its last one.
_ASYMMETRY = 1e-2


def find_label(key: str, places: tuple[Mapping[str, Any], ...]) -> Any:
    """The value under a key in the first place that has it; None where none has."""
    return next((place[key] for place in places if key in place), None)


def energy_label(value: Any, key: str, source: str) -> float | None:
    """A total energy in eV, or None where there is none.

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
    """Forces [atoms, 3] in eV/Å, or None where there are none.

    Raises:
        InputError: another shape, or a component that is not finite.
    """
    if value is None:
        return None
    forces = _numbers(value, key, source)
    if forces.shape != (num_atoms, 3):
        raise InputError(f"{source}: {key} has shape {list(forces.shape)}; forces on {num_atoms} atoms need [{num_atoms}, 3]")
    check_atoms_finite(forces, key, source)
    return forces


def stress_label(value: Any, volume: float, key: str, source: str) -> np.ndarray | None:
    """A symmetric stress [3, 3] in eV/Å³ from 6 numbers (Voigt: xx yy zz yz xz xy) or 9; None where there is none.

    Args:
        value: what lies under the key. Where the key has `virial` in it, a virial W in eV, of which the stress is -W / volume:
            W = -dE/dε for a strain ε, as ACEsuit's MACE, QUIP and NequIP have it, and the stress is dE/dε / volume, as ASE has it.
        volume: of the cell, Å³.
        key: for messages.
        source: for messages.

    Raises:
        InputError: another number of components, one that is not finite, a matrix that is not symmetric, or a virial without a volume.
    """
    if value is None:
        return None
    numbers = _numbers(value, key, source)
    if numbers.size not in (6, 9):
        raise InputError(f"{source}: {key} holds {numbers.size} numbers; a stress has 6 (xx yy zz yz xz xy) or 9, in eV/Å³")
    _check_finite(numbers, key, source)
    matrix = stress_matrix(numbers)
    if np.abs(matrix - matrix.T).max() > _ASYMMETRY * np.abs(matrix).max():
        raise InputError(f"{source}: {key} is not a symmetric matrix; a stress is, to {_ASYMMETRY:.0%} of its largest component")
    symmetric = (matrix + matrix.T) / 2
    if "virial" not in key.lower():
        return symmetric
    if volume <= 0:
        raise InputError(f"{source}: {key} is a virial, but the cell has no volume; the stress is -virial / volume")
    return -symmetric / volume


def stress_matrix(numbers: np.ndarray) -> np.ndarray:
    """Six numbers in Voigt's order or nine as a matrix [3, 3]."""
    return numbers.ravel()[_VOIGT] if numbers.size == 6 else numbers.reshape(3, 3)


def check_atoms_finite(values: np.ndarray, name: str, source: str) -> None:
    """Require finite values [atoms, ...].

    Raises:
        InputError: names the first atom with one that is not.
    """
    finite = np.isfinite(values)
    if not finite.all():
        atom = int(np.argwhere(~finite)[0][0])
        raise InputError(f"{source}, atom {atom}: {name} holds {values[~finite][0]}; every component must be a finite number")


def _check_finite(numbers: np.ndarray, key: str, source: str) -> None:
    finite = np.isfinite(numbers)
    if not finite.all():
        raise InputError(f"{source}: {key} holds {numbers[~finite][0]}; it must be finite, or be left out where it is not known")


def _numbers(value: Any, key: str, source: str) -> np.ndarray:
    """The value as float64. A key without a value reads as True, a Fortran exponent or stars as text: neither is a number."""
    if isinstance(value, int | float | list | tuple | np.ndarray | np.number):
        numbers = np.asarray(value)
        if numbers.dtype.kind in "iuf":
            return numbers.astype(np.float64)
    raise InputError(f"{source}: {key} holds {str(value)[:40]!r}, which is not a number such as -1.5 or -1.5E-03")
