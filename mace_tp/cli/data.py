"""`mace-tp data`: open data sets of the field, fetched and converted to extended XYZ."""

import argparse
import re
import shlex
from pathlib import Path

from mace_tp.cli.signals import raising
from mace_tp.data.open_sets import OpenSet, find_open_set, open_sets
from mace_tp.errors import InputError


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mace-tp data", description="Open data sets of the field, as extended XYZ.")
    commands = parser.add_subparsers(required=True, metavar="list | get")
    listing = commands.add_parser("list", help="what there is")
    listing.set_defaults(run=_list)
    get = commands.add_parser("get", help="fetch one and convert it")
    get.add_argument("name")
    get.add_argument("--out", type=Path, default=Path("data_sets"), metavar="DIR", help="its files go to DIR/NAME (default %(default)s)")
    get.add_argument("--from", type=Path, dest="source", metavar="PATH", help="convert a copy that you have: its file, or a folder of them")
    get.set_defaults(run=_get)
    return parser


def _list(options: argparse.Namespace) -> None:
    for entry in open_sets().values():
        print(f"{entry.name}: {entry.title}")
        print(f"    {entry.configurations}; {entry.elements}; {entry.theory}")
        print(f"    licence: {entry.licence}; {entry.page}")
        print(f"    address {'tried on ' + entry.tried if entry.tried else 'never tried by the authors of this program'}")


def _get(options: argparse.Namespace) -> None:
    # ASE takes a second to load, which `list` does not need.
    from mace_tp.data.conversion import convert

    entry = find_open_set(options.name)
    folder = options.out / entry.name
    given = None if options.source is None else _copies(entry, options.source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be made ({error.strerror})") from error
    with raising():
        sources = given or _fetched(entry, folder / "fetched")
        made = [path for source in sources for path in convert(entry.format, source, folder)]
    print("\n".join(map(str, made)))
    print(f"licence: {entry.licence}; cite {entry.cite}")
    print(f"to train: {_training_line(entry, made)}")


def _copies(entry: OpenSet, given: Path) -> list[Path]:
    """The files of a user.

    Raises:
        InputError: some are not there; lists them.
    """
    if len(entry.files) == 1 and given.is_file():
        return [given]
    if not given.is_dir():
        raise InputError(f"--from {given}: must be {'a folder with ' if len(entry.files) > 1 else ''}{', '.join(entry.files)}")
    if missing := [file for file in entry.files if not (given / file).is_file()]:
        raise InputError(f"--from {given}: lacks {', '.join(missing)}")
    return [given / file for file in entry.files]


def _fetched(entry: OpenSet, folder: Path) -> list[Path]:
    """The files of the publisher; those that are there already are not fetched again.

    Raises:
        InputError: one cannot be fetched.
    """
    from mace_tp.data.downloads import download

    folder.mkdir(exist_ok=True)
    try:
        for file in entry.files:
            if not (folder / file).exists():
                print(f"{entry.address(file)} -> {folder / file}", flush=True)
                download(entry.address(file), folder / file, entry.md5)
    finally:
        _remove_where_empty(folder, folder.parent)
    return [folder / file for file in entry.files]


def _remove_where_empty(*folders: Path) -> None:
    for folder in folders:
        if not any(folder.iterdir()):
            folder.rmdir()


def _training_line(entry: OpenSet, made: list[Path]) -> str:
    """What trains on the files, to be pasted into a shell: it quotes each word, and Hydra's quotes are within."""
    paths = {path.name: str(path) for path in made}
    words = []
    for key, _, value in (word.partition("=") for word in entry.keys.split()):
        values = ",".join(_in_hydra(paths.get(name, name)) for name in value.strip("[]").split(","))
        words.append(f"{key}=[{values}]" if value.startswith("[") else f"{key}={values}")
    return shlex.join(["mace-tp", "train", *words, f"data.theory={_in_hydra(entry.theory)}"])


def _in_hydra(value: str) -> str:
    """In quotes where Hydra would take a space, a comma or a bracket for its own."""
    if re.fullmatch(r"[\w./-]+", value, flags=re.ASCII):
        return value
    return '"' + value.replace('"', '\\"') + '"'
