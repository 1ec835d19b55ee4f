"""Checks of the arguments of an exported model, so that wrong arrays do not give plausible numbers. Needs numpy alone."""

from typing import NamedTuple

import numpy as np

from mace_tp.errors import InputError

# Å; sums over the edges of an atom must cancel to this. The caller may have computed both directions of an edge in float32.
_TOLERANCE = 1e-2


class Structure(NamedTuple):
    """One structure and its edges, in the dtypes that the function needs."""

    positions: np.ndarray  # [atoms, 3], Å, float64
    atomic_numbers: np.ndarray  # [atoms]
    senders: np.ndarray  # [edges], int32
    receivers: np.ndarray  # [edges], int32
    shifts: np.ndarray  # [edges, 3], Å, float64
    cell: np.ndarray  # [3, 3], Å, float64; zero where nothing is periodic

    @property
    def vectors(self) -> np.ndarray:
        """Edge vectors [edges, 3], Å, float64."""
        return self.positions[self.receivers] - self.positions[self.senders] + self.shifts


def checked(
    positions: np.ndarray, atomic_numbers: np.ndarray, senders: np.ndarray, receivers: np.ndarray, shifts: np.ndarray,
    cell: np.ndarray | None,
) -> Structure:  # fmt: skip
    """Check that the arguments of `ExportedModel` belong together, and convert them.

    Raises:
        InputError: a wrong shape, a number that is not finite, an edge of an atom that does not exist, an edge without length, an edge
            that occurs twice, or an edge without its reverse.
    """
    positions = _floats("positions", positions, (None, 3))
    if not len(positions):
        raise InputError("positions: there are no atoms")
    numbers = _integers("atomic_numbers", atomic_numbers, len(positions))
    shifts = _floats("shifts", shifts, (None, 3))
    ends = [_integers(name, values, len(shifts)) for name, values in (("senders", senders), ("receivers", receivers))]
    for name, values in zip(("senders", "receivers"), ends, strict=True):
        outside = (values < 0) | (values >= len(positions))
        if outside.any():
            edge = int(np.argmax(outside))
            raise InputError(f"{name}: edge {edge} names atom {values[edge]}, valid are 0 to {len(positions) - 1}")
    cell = np.zeros((3, 3)) if cell is None else _floats("cell", cell, (3, 3))
    structure = Structure(positions, numbers, ends[0].astype(np.int32), ends[1].astype(np.int32), shifts, cell)
    _check_edges(structure)
    return structure


def _check_edges(structure: Structure) -> None:
    """Require that every edge has a length and occurs once, and that edges from and to each atom agree in number and cancel in sum."""
    vectors = structure.vectors
    zero = ~vectors.any(axis=1)
    if zero.any():
        edge = int(np.argmax(zero))
        raise InputError(f"edge {edge}, from atom {structure.senders[edge]} to {structure.receivers[edge]}: has no length; leave it out")
    if (edge := _repeated(structure)) is not None:
        raise InputError(f"edge {edge}, from atom {structure.senders[edge]} to {structure.receivers[edge]}: is there more than once")
    leaving, arriving = (_sums(ends, vectors, len(structure.positions)) for ends in (structure.senders, structure.receivers))
    unbalanced = (leaving[0] != arriving[0]) | (np.abs(leaving[1:] + arriving[1:]) > _TOLERANCE).any(axis=0)
    if unbalanced.any():
        atom = int(np.argmax(unbalanced))
        raise InputError(f"edges of atom {atom}: some lack the opposite one, with the opposite shift; a full neighbor list is needed")


def _repeated(structure: Structure) -> int | None:
    """An edge between the same atoms and with the same shift as an earlier one; None if there is none."""
    keys = np.column_stack([structure.senders, structure.receivers, np.rint(structure.shifts / _TOLERANCE)])
    order = np.lexsort(keys.T)
    is_same = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    return int(order[1:][np.argmax(is_same)]) if is_same.any() else None


def _sums(ends: np.ndarray, vectors: np.ndarray, num_atoms: int) -> np.ndarray:
    """Number of edges, and sums of their three components, at each atom [4, atoms]."""
    weights = [np.ones(len(ends)), *vectors.T]
    return np.stack([np.bincount(ends, weight, minlength=num_atoms) for weight in weights])


def _floats(name: str, values: np.ndarray, shape: tuple[int | None, int]) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: is not an array of numbers ({error})") from error
    if array.shape == (0,) and shape[0] is None:  # an empty list
        array = array.reshape(0, shape[1])
    if array.ndim != 2 or array.shape[1] != shape[1] or shape[0] not in (None, len(array)):
        expected = "[" + ", ".join("any number" if size is None else str(size) for size in shape) + "]"
        raise InputError(f"{name}: has the shape {list(array.shape)}, must be {expected}")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: holds numbers that are not finite")
    return array


def _integers(name: str, values: np.ndarray, length: int) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name}: is not an array of numbers ({error})") from error
    if array.shape != (length,):
        raise InputError(f"{name}: has the shape {list(array.shape)}, must be [{length}]")
    if length and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name}: is of type {array.dtype}, must be integers")
    return array
