"""Chemical symbols and atomic numbers."""

from collections.abc import Iterable

from mace_tp.errors import InputError

_NAMES = """
    X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd
    Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th
    Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS = tuple(_NAMES.split())
_ATOMIC_NUMBERS = {name: number for number, name in enumerate(SYMBOLS) if number > 0}


def symbol(atomic_number: int) -> str:
    """The chemical symbol of an atomic number Z, 1 to 118; `Z=...` for any other number, so that an error can still name it."""
    return SYMBOLS[atomic_number] if 0 < atomic_number < len(SYMBOLS) else f"Z={atomic_number}"


def symbols(atomic_numbers: Iterable[int]) -> str:
    """The symbols of several atomic numbers as text, ascending Z: `H C O`."""
    return " ".join(symbol(int(number)) for number in sorted(set(atomic_numbers)))


def is_symbol(name: str) -> bool:
    """Whether a name, in any case (`CL`, `cl`), is a chemical symbol."""
    return name.capitalize() in _ATOMIC_NUMBERS


def atomic_number(name: object, where: str) -> int:
    """The atomic number Z of a chemical symbol.

    Raises:
        InputError: not a chemical symbol; `where` says what held it.
    """
    if not isinstance(name, str) or name not in _ATOMIC_NUMBERS:
        raise InputError(f"{where}: unknown chemical symbol {name!r}; valid are symbols such as H, C, Si")
    return _ATOMIC_NUMBERS[name]
