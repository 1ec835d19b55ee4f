"""Frames in a form that survives extended XYZ. ASE writes some values such that no program can read the file."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import read_xyz
from ase.spacegroup import Spacegroup
from ase.stress import voigt_6_to_full_3x3_stress

_LOG = logging.getLogger("mace_tp")
# ASE writes columns with eight decimals.
_ROUNDING = 1e-7
# Under these names ASE reads only nine numbers.
_MATRICES = ("stress", "virial")


def readable(atoms: ase.Atoms, source: str) -> ase.Atoms:
    """The frame itself if ASE can read back the text that it writes; else a copy with the offending values in another form.

    Some values, such as a line break, an empty value or None in the comment line, or a word with a blank in a column, make a frame or even
    the whole file unreadable. They are written as JSON, which ASE understands. The log names values that cannot be written at all.

    Args:
        atoms: with results in a `SinglePointCalculator`; values per atom have one or two axes.
        source: for messages.
    """
    if _reads_back(atoms, _values(atoms)):
        return atoms
    plain = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, constraint=atoms.constraints)
    lost = []
    for name, value in _values(atoms).items():
        form = next((form for form in _forms(atoms, name, value) if _reads_back(form, {name: value})), None)
        if form is None:
            lost.append(name)
            continue
        plain.info |= form.info
        plain.arrays |= {column: values for column, values in form.arrays.items() if column not in ("numbers", "positions")}
        if form.calc is not None:
            results = plain.calc.results if plain.calc is not None else {}
            plain.calc = SinglePointCalculator(plain, **results, **form.calc.results)
    if lost:
        _LOG.warning("%s: extended XYZ cannot hold %s, which is left out", source, ", ".join(map(repr, lost)))
    return plain


def _values(atoms: ase.Atoms) -> dict[str, Any]:
    """All values except elements, positions and cell, by name."""
    arrays = {name: values for name, values in atoms.arrays.items() if name not in ("numbers", "positions")}
    values = {**atoms.info, **arrays, **({} if atoms.calc is None else atoms.calc.results)}
    return {name: _matrix(value) if name in _MATRICES else value for name, value in values.items()}


def _matrix(value: Any) -> Any:
    """A stress [3, 3] from six or nine numbers; any other value unchanged."""
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "if" or numbers.size not in (6, 9):
        return value
    return voigt_6_to_full_3x3_stress(numbers.ravel()) if numbers.size == 6 else numbers.reshape(3, 3)


def _forms(atoms: ase.Atoms, name: str, value: Any) -> Iterator[ase.Atoms]:
    """Frames that hold one value, in each form in which it can be written, the best form first."""
    frame, as_json = (ase.Atoms(atoms.numbers, atoms.positions) for _ in range(2))
    if atoms.calc is not None and name in atoms.calc.results:
        frame.calc = SinglePointCalculator(frame, **{name: value})
    elif name in atoms.arrays:
        frame.arrays[name] = value.astype(np.int64) if value.dtype.kind == "u" else value
    else:
        frame.info[name] = value
    yield frame
    try:
        # ASE escapes quotes, but not backslashes.
        as_json.info[name] = "_JSON " + json.dumps(value, default=_plain).replace("\\", "\\\\")
    except (TypeError, ValueError, RecursionError):  # the value has no JSON
        return
    yield as_json


def _reads_back(atoms: ase.Atoms, values: Mapping[str, Any]) -> bool:
    """Whether ASE reads the same atoms and values from the text that it writes for a frame."""
    try:
        with io.StringIO() as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ASE warns of values that it leaves out; the comparison finds these
            ase.io.write(file, atoms, format="extxyz")
            text = file.getvalue()
        text.encode()
        [after] = read_xyz(io.StringIO(text), slice(None))
        # Programs differ in the characters that they take for line breaks.
        return len(text.splitlines()) == len(atoms) + 2 and _is_same_structure(atoms, after) and _are_same(values, _values(after))
    except MemoryError:
        raise
    except Exception:  # any failure of writing or reading rules this form out
        return False


def _is_same_structure(before: ase.Atoms, after: ase.Atoms) -> bool:
    equal = np.array_equal(before.numbers, after.numbers) and np.array_equal(before.pbc, after.pbc)
    return equal and all(np.allclose(*pair, atol=_ROUNDING) for pair in ((before.positions, after.positions), (before.cell, after.cell)))


def _are_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return before.keys() == after.keys() and all(_is_same(value, after[name]) for name, value in before.items())


def _is_same(before: Any, after: Any) -> bool:
    if isinstance(before, Spacegroup):
        before = before.symbol
    if isinstance(before, str):
        return str(after) == before  # ASE reads a tag such as 300 as a number
    if isinstance(before, int | float | np.number | np.ndarray) and np.asarray(before).dtype.kind in "iufb":
        numbers, found = np.ravel(before), np.ravel(after)
        is_number = found.dtype.kind in "iufb" and found.shape == numbers.shape
        return is_number and np.allclose(numbers, found, rtol=1e-6, atol=_ROUNDING, equal_nan=True)
    return json.dumps(before, default=_plain) == json.dumps(after, default=_plain)


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy as Python objects, for JSON."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iufbUO":
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON")
