"""Places that a command writes to, looked at before its work: none is an input, and nothing is found out too late."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mace_tp.errors import InputError


def require_new_file(flag: str, path: Path, inputs: Sequence[str]) -> None:
    """Require a place for a file.

    Args:
        flag: for messages.
        path: of the file; an earlier one may lie there.
        inputs: files that are read, under whatever names.

    Raises:
        InputError: it is one of the inputs, or a folder, or there is no folder to write it into.
    """
    if path.is_dir():
        raise InputError(f"{flag} {path}: is a folder, must be a file")
    if not path.parent.is_dir():
        raise InputError(f"{flag} {path}: there is no folder {path.parent}")
    if path.exists() and any(Path(name).exists() and path.samefile(name) for name in inputs):
        raise InputError(f"{flag} {path}: is a file that is read here, which would be lost; give another name")


def require_new_folder(flag: str, path: Path) -> None:
    """Require a place for a folder, which may be there. An empty folder is made in it and removed: permissions do not tell everything.

    Raises:
        InputError: the path or one of its parents is a file, or the folder cannot be written.
    """
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"{flag} {path}: cannot be made, for {there} is a file")
    try:
        tempfile.TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        raise InputError(f"{flag} {path}: cannot be made or written ({error.strerror})") from error
