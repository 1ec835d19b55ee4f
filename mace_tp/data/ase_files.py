"""Frames of the files that ASE's parsers read, with one line of error where a parser fails or a calculation was cut off."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import ase
import ase.db
import ase.io
from ase.io.formats import filetype, open_with_compression

from mace_tp.data.bad_frames import BadFrames
from mace_tp.errors import InputError, one_line

# ASE silently reads the part of such a file that exists. A finished calculation writes these words last.
_LAST_WORDS = {"vasp-xml": b"</modeling>", "vasp-out": b"General timing and accounting informations"}
# The last line of a step in an OUTCAR. If the file ends in this line, its number may have lost digits.
_LAST_ENERGY = b"energy(sigma->0)"
# Bytes at the end of a file in which both are searched; VASP's table of timings takes a few thousand.
_TAIL = 1 << 16
_CHUNK = 1 << 20
_DATABASES = ("db", "json")


@contextlib.contextmanager
def parser_errors(describe: Callable[[str], str]) -> Iterator[None]:
    """Turn any exception of ASE's parsers in this block into one line.

    Args:
        describe: makes the whole line from the text of the exception.

    Raises:
        InputError: the block raised an exception other than MemoryError, which says nothing about the file.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    # Parsers raise many kinds of exceptions, some of them bare `Exception`, and new kinds with each version of ASE: no list is complete.
    except Exception as error:
        raise InputError(describe(one_line(error))) from error


def ase_frames(path: Path, bad: BadFrames) -> Iterator[ase.Atoms]:
    """Frames in the order of the file.

    Args:
        path: the file. The values of a database's row go to `info`.
        bad: receives the frame at which the file is cut or becomes unreadable.

    Raises:
        InputError: ASE cannot read the file, or it has no frames.
    """
    count = 0
    with bad.of_one_frame():
        # The message is made when the error occurs, so that it has the `count` of that moment.
        with parser_errors(lambda said: f"{path} frame {count}: ASE cannot read it ({said})"):
            format = filetype(str(path))
            tail = _tail(path) if format in _LAST_WORDS else b""
            is_cut = format in _LAST_WORDS and _LAST_WORDS[format] not in tail
            frames = _rows(path) if format in _DATABASES else ase.io.iread(path, ":", format, do_not_split_by_at_sign=True)
            for atoms in _all_but_last(frames) if is_cut and _LAST_ENERGY in tail.rpartition(b"\n")[2] else frames:
                yield atoms
                count += 1
        if count == 0 and not is_cut:
            raise InputError(f"{path}: holds no frames; at least one is needed")
        if is_cut:
            reason = "it is truncated, or the calculation is not finished"
            raise InputError(f"{path} frame {count}: the file ends before this frame is complete; {reason}")


def read_structure(path: Path, frame: int) -> ase.Atoms:
    """Read one frame of a file, with everything that ASE finds in it.

    Args:
        path: the file.
        frame: index from 0, or from the end if negative.

    Raises:
        InputError: there is no such file or frame, or ASE cannot read it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with parser_errors(lambda said: f"{path}: ASE cannot read it ({said})"):
        try:
            return ase.io.read(path, index=frame, do_not_split_by_at_sign=True)
        except (IndexError, StopIteration) as error:
            # A failing parser may raise the same, so for the first frame the reason is unknown.
            if frame == 0:
                raise
            raise InputError(f"{path}: has no frame {frame}; frames count from 0") from error


def _all_but_last(frames: Iterable[ase.Atoms]) -> Iterator[ase.Atoms]:
    """All frames but the last one, which the cut may have changed."""
    last = None
    for atoms in frames:
        if last is not None:
            yield last
        last = atoms


def _rows(path: Path) -> Iterator[ase.Atoms]:
    """Rows of a database with the values that the user has stored; `ase.io.iread` would drop these values."""
    with ase.db.connect(path) as database:
        for row in database.select():
            atoms = row.toatoms()
            atoms.info |= {**row.data, **row.key_value_pairs}
            yield atoms


def _tail(path: Path) -> bytes:
    """The last bytes of a file, decompressed."""
    tail = b""
    with open_with_compression(str(path), "rb") as file:
        while chunk := file.read(_CHUNK):
            tail = (tail + chunk)[-_TAIL:]
    return tail
