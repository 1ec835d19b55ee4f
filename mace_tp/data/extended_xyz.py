"""Structure of extended-XYZ text: the lines of each frame, and checks of them.

ASE accepts text with missing lines or columns. These checks run before ASE and name the line.
Frames and atoms count from 0, as in ASE; lines count from 1, as in editors.
"""

import bz2
import dataclasses
import functools
import gzip
import logging
import lzma
import re
from collections.abc import Callable, Sequence

from mace_tp.data.bad_frames import BadFrames
from mace_tp.data.elements import is_symbol
from mace_tp.errors import InputError

_LOG = logging.getLogger("mace_tp")
_PROPERTIES = re.compile(r"(?:^|\s)Properties\s*=\s*[\"']?([^\s\"']+)")
_PLAIN_PROPERTIES = "species:S:1:pos:R:3"
_MAX_CELL_LINES = 3
# Largest number of columns of one property. A larger one is a damaged number, and a list of that length would fill the memory.
_MAX_COLUMNS = 100_000
# Numbers written by hand have fewer decimals.
_FIXED_DECIMALS = 4
COMPRESSED: dict[str, Callable] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
"""Functions that open a compressed file, by suffix."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """The lines of one frame: number of atoms, comment, one line per atom, and optionally ADF's VEC lines."""

    index: int
    start: int  # index of the line with the number of atoms, from 0
    num_atoms: int
    stop: int

    @property
    def line(self) -> int:
        return self.start + 1


def scan(lines: Sequence[str], path: str, errors: BadFrames) -> list[Frame]:
    """Find the frames of an extended-XYZ file and check their lines and columns. Blank lines between frames are allowed.

    Args:
        lines: of the whole file.
        path: for messages.
        errors: receives errors of single frames; the scan continues at the next frame.

    Raises:
        InputError: the file is empty, or a frame is truncated, has no atoms, or a line without the announced columns.
    """
    frames: list[Frame] = []
    start, index = 0, 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        with errors.of_one_frame():
            frames.append(_scan_frame(lines, start, index, path))
        found = bool(frames) and frames[-1].index == index
        start = frames[-1].stop if found else _next_frame(lines, start + 1)
        index += 1
    if not index:
        raise InputError(f"{path}: the file is empty; extended XYZ with at least one frame is needed")
    if frames:
        with errors.of_one_frame():
            _check_last_number(lines, frames[-1], path)
            return frames
    return frames[:-1]


def _next_frame(lines: Sequence[str], start: int) -> int:
    """The first line from `start` on that can begin a frame: a whole number, followed by a comment with an `=`."""
    candidates = range(start, len(lines) - 1)
    return next((row for row in candidates if re.fullmatch(r"\s*\d+\s*", lines[row]) and "=" in lines[row + 1]), len(lines))


def explain(lines: Sequence[str], frame: Frame, path: str) -> None:
    """Find the faulty word in a frame that ASE cannot read.

    Raises:
        InputError: a chemical symbol is unknown, or a word is not the number that `Properties` announces.
    """
    columns = _columns(_properties(lines[frame.start + 1]))
    for atom in range(frame.num_atoms):
        row = frame.start + 2 + atom
        for column, (word, (name, kind)) in enumerate(zip(lines[row].split(), columns, strict=False)):
            where = f"{path} frame {frame.index}, atom {atom} (line {row + 1}, column {column + 1})"
            if name == "species" and not is_symbol(word):
                raise InputError(f"{where}: unknown chemical symbol {word!r} in the species column; valid are symbols such as H, C, Si")
            if kind in "RI" and not _is_number(word, kind):
                wanted = "a number such as -1.5 or -1.5E-03" if kind == "R" else "a whole number"
                raise InputError(f"{where}: {name} holds {word!r}, which is not {wanted}")


def _scan_frame(lines: Sequence[str], start: int, index: int, path: str) -> Frame:
    where = f"{path} frame {index} (line {start + 1})"
    count = lines[start].split()
    if len(count) != 1 or not re.fullmatch(r"[+-]?\d+", count[0]):
        raise InputError(f"{where}: expected the number of atoms of the next frame, found {lines[start].strip()[:60]!r}")
    num_atoms = int(count[0])
    if num_atoms < 1:
        raise InputError(f"{where}: announces {num_atoms} atoms; a frame needs at least one")
    found = len(lines) - start - 2
    if found < num_atoms:
        raise InputError(f"{where}: the file ends after {max(found, 0)} of {num_atoms} atom lines; it is truncated")
    _check_columns(lines, start, num_atoms, where)
    stop = start + 2 + num_atoms
    while stop < min(len(lines), start + 2 + num_atoms + _MAX_CELL_LINES) and lines[stop].lstrip().startswith("VEC"):
        stop += 1
    return Frame(index, start, num_atoms, stop)


def _check_columns(lines: Sequence[str], start: int, num_atoms: int, where: str) -> None:
    properties = _properties(lines[start + 1])
    try:
        expected = len(_columns(properties))
    except ValueError as error:
        raise InputError(f"{where}: Properties={properties} is not a list of name:type:columns such as {_PLAIN_PROPERTIES}") from error
    # A plain XYZ file announces no columns, and may have further ones after the positions.
    exact = _PROPERTIES.search(lines[start + 1]) is not None
    for row in range(start + 2, start + 2 + num_atoms):
        found = len(lines[row].split())
        if found < expected or (exact and found > expected):
            cut = "; the file is cut in this line" if row == len(lines) - 1 and found < expected else ""
            atom = f"atom {row - start - 2} of {num_atoms} (line {row + 1})"
            raise InputError(f"{where}: {atom} has {found} columns, {expected} are announced by {properties}{cut}")


def _check_last_number(lines: Sequence[str], frame: Frame, path: str) -> None:
    """Detect a file that is cut in its last number: no final line end, and fewer decimals than all other numbers of a fixed format."""
    if lines[-1].endswith("\n") or frame.stop < len(lines):
        return
    reals = [column for column, (_, kind) in enumerate(_columns(_properties(lines[frame.start + 1]))) if kind == "R"]
    words = [lines[row].split() for row in range(frame.start + 2, frame.start + 2 + frame.num_atoms)]
    *others, last = [_decimals(row[column]) for row in words for column in reals]
    fixed = len(set(others)) == 1 and others[0] >= _FIXED_DECIMALS
    if fixed and reals[-1] == len(words[-1]) - 1 and last < others[0]:
        where = f"{path} frame {frame.index}, atom {frame.num_atoms - 1} (line {len(lines)})"
        raise InputError(f"{where}: the file ends in the number {words[-1][-1]!r}, shorter than all others; it is truncated")
    _LOG.warning("%s: no line end after the last number; if the file was cut there, that number (%s) is wrong", path, words[-1][-1])


def _decimals(word: str) -> int:
    return len(word.partition(".")[2])


def _properties(comment: str) -> str:
    match = _PROPERTIES.search(comment)
    return match.group(1) if match else _PLAIN_PROPERTIES


@functools.lru_cache(maxsize=64)
def _columns(properties: str) -> tuple[tuple[str, str], ...]:
    """(name, kind) of every column; kinds are S, R, I and L."""
    words = properties.split(":")
    if len(words) % 3 or any(kind not in ("S", "R", "I", "L") for kind in words[1::3]):
        raise ValueError(properties)
    counts = [int(count) for count in words[2::3]]
    if max(counts) > _MAX_COLUMNS:
        raise ValueError(properties)
    triples = zip(words[::3], words[1::3], counts, strict=True)
    return tuple((name, kind) for name, kind, count in triples for _ in range(count))


def _is_number(word: str, kind: str) -> bool:
    try:
        float(word) if kind == "R" else int(word)
    except ValueError:
        return False
    return True
