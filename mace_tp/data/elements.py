"""Chemical symbols, atomic numbers Z, and the index of an element among those of a model."""

from collections.abc import Iterable, Sequence

import numpy as np
from ase.data import atomic_numbers as _NUMBERS
from ase.data import chemical_symbols as _SYMBOLS

from mace_tp.errors import InputError

LAST = len(_SYMBOLS) - 1
"""The largest atomic number that has a symbol."""


def symbol(atomic_number: int) -> str:
    """The chemical symbol of an atomic number Z, 1 to 118; `Z=...` for any other number, so that an error can still name it."""
    return _SYMBOLS[atomic_number] if 0 < atomic_number <= LAST else f"Z={atomic_number}"


def symbols(atomic_numbers: Iterable[int]) -> str:
    """The symbols of several atomic numbers as text, ascending Z: `H C O`."""
    return " ".join(symbol(int(number)) for number in sorted(set(atomic_numbers)))


def is_symbol(name: str) -> bool:
    """Whether a name, in any case (`CL`, `cl`), is a chemical symbol."""
    return _NUMBERS.get(name.capitalize(), 0) > 0


def atomic_number(name: object, where: str) -> int:
    """The atomic number Z of a chemical symbol.

    Raises:
        InputError: not a chemical symbol; the message begins with `where`.
    """
    if not isinstance(name, str) or _NUMBERS.get(name, 0) == 0:
        raise InputError(f"{where}: unknown chemical symbol {name!r}; valid are symbols such as H, C, Si")
    return _NUMBERS[name]


def species_of(atomic_numbers: np.ndarray | Sequence[int], elements: np.ndarray | Sequence[int], source: str = "") -> np.ndarray:
    """Index of each atom's element among the elements of a model [atoms], int32.

    Args:
        atomic_numbers: Z [atoms].
        elements: Z of the model's elements, ascending.
        source: begins the message, such as the file and the frame.

    Raises:
        InputError: the model does not have the element of an atom.
    """
    numbers, elements = np.asarray(atomic_numbers, int), np.asarray(elements)
    known = np.isin(numbers, elements)
    if not known.all():
        atom = int(np.argmin(known))
        where, listed = f"{source}, atom {atom}" if source else f"atom {atom}", symbols(elements.tolist())
        raise InputError(f"{where}: element {symbol(int(numbers[atom]))} is not one of the model's ({listed})")
    return np.searchsorted(elements, numbers).astype(np.int32)
