"""Checks and makes the files and folders that a command writes, before its work begins."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mace_tp.errors import InputError


def require_new_file(flag: str, path: Path, inputs: Sequence[str]) -> None:
    """Require that a file can be written without losing an input. An older output of the same name may be replaced.

    Args:
        flag: for messages.
        path: of the file.
        inputs: files that the command reads, under any name.

    Raises:
        InputError: the path is a folder or one of the inputs, or its folder does not exist.
    """
    if path.is_dir():
        raise InputError(f"{flag} {path}: is a folder, must be a file")
    if not path.parent.is_dir():
        raise InputError(f"{flag} {path}: there is no folder {path.parent}")
    if path.exists() and any(Path(name).exists() and path.samefile(name) for name in inputs):
        raise InputError(f"{flag} {path}: is a file that is read here, which would be lost; give another name")


def require_absent(path: Path, *, force: bool) -> None:
    """Require that nothing is replaced without `--force`.

    Raises:
        InputError: the path exists.
    """
    if path.exists() and not force:
        raise InputError(f"{path}: is there already; --force replaces it")


def require_new_folder(flag: str, path: Path) -> None:
    """Require that a folder can be made or written; it may exist.

    Permissions do not tell everything, so a temporary folder is made in the nearest existing one.

    Raises:
        InputError: the path or one of its parents is a file, or the folder cannot be written.
    """
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"{flag} {path}: cannot be made, because {there} is a file")
    try:
        tempfile.TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        raise InputError(f"{flag} {path}: cannot be made or written ({error.strerror})") from error


def make_folder(flag: str, path: Path) -> Path:
    """Make a folder and its parents; it may exist.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{flag} {path}: cannot be made ({error.strerror})") from error
    return path
