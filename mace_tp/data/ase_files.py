"""Files that ASE's parsers read: their frames, and one line where a parser fails or a calculation was cut off."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import ase
import ase.db
import ase.io
from ase.io.formats import filetype, open_with_compression

from mace_tp.data.bad_frames import BadFrames
from mace_tp.errors import InputError

# ASE reads the part of such a file that is there and does not mention the rest. A finished calculation writes these words last.
_LAST_WORDS = {"vasp-xml": b"</modeling>", "vasp-out": b"General timing and accounting informations"}
# The last line of a step in an OUTCAR. A number that lost its last digits is still a number.
_LAST_ENERGY = b"energy(sigma->0)"
# Bytes at the end of a file that are searched for them; VASP's table of timings takes a few thousand.
_TAIL = 1 << 16
_CHUNK = 1 << 20
_DATABASES = ("db", "json")


@contextlib.contextmanager
def parser_errors(describe: Callable[[str], str]) -> Iterator[None]:
    """Turn whatever a parser of ASE raises in this block into one line.

    Args:
        describe: the whole line, from the error's own text.

    Raises:
        InputError: something was raised, except MemoryError, which says nothing about the file.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    # Parsers raise exceptions of many kinds, some derived from Exception itself, and others with each version of ASE. No list is complete.
    except Exception as error:
        raise InputError(describe(" ".join(str(error).split())[:200] or type(error).__name__)) from error


def ase_frames(path: Path, bad: BadFrames) -> Iterator[ase.Atoms]:
    """Frames in the order of the file.

    Args:
        path: the file; of a database, the values of a row are in `info`.
        bad: takes the frame at which the file ends or cannot be read any further.

    Raises:
        InputError: ASE cannot read the file, or it has no frames.
    """
    count = 0
    with bad.of_one_frame():
        # Every write to `count` is seen by the message.
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
            raise InputError(f"{path} frame {count}: the file ends before this frame is complete; it is truncated, or not finished")


def read_structure(path: Path, frame: int) -> ase.Atoms:
    """One frame of a file, with everything that ASE finds there.

    Args:
        path: the file.
        frame: counts from 0, or from the end where it is negative.

    Raises:
        InputError: there is no such file or frame, or ASE cannot read it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with parser_errors(lambda said: f"{path}: ASE cannot read it ({said})"):
        try:
            return ase.io.read(path, index=frame, do_not_split_by_at_sign=True)
        except (IndexError, StopIteration) as error:
            # A parser that stumbles may raise the same, so that of the first frame nothing is known.
            if frame == 0:
                raise
            raise InputError(f"{path}: has no frame {frame}; frames count from 0") from error


def _all_but_last(frames: Iterable[ase.Atoms]) -> Iterator[ase.Atoms]:
    """The frames but the last one, which is the one that a cut may have changed."""
    last = None
    for atoms in frames:
        if last is not None:
            yield last
        last = atoms


def _rows(path: Path) -> Iterator[ase.Atoms]:
    """Rows of a database, which ASE's readers of files return without the values that the user has stored."""
    with ase.db.connect(path) as database:
        for row in database.select():
            atoms = row.toatoms()
            atoms.info |= {**row.data, **row.key_value_pairs}
            yield atoms


def _tail(path: Path) -> bytes:
    """The last bytes of a file, which may be compressed."""
    tail = b""
    with open_with_compression(str(path), "rb") as file:
        while chunk := file.read(_CHUNK):
            tail = (tail + chunk)[-_TAIL:]
    return tail
