"""`mace-tp data`: open data sets of the field, fetched and converted to extended XYZ."""

import argparse
from pathlib import Path

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be made ({error.strerror})") from error
    made = [path for file in entry.files for path in convert(entry.format, _source(entry, file, folder, options.source), folder)]
    print("\n".join(map(str, made)))
    print(f"licence: {entry.licence}; cite {entry.cite}")
    print(f"to train: mace-tp train {_with_folder(entry.keys, made)}")


def _source(entry: OpenSet, file: str, folder: Path, given: Path | None) -> Path:
    """The file itself: a copy of the user's, or fetched into a folder beside what is made of it."""
    from mace_tp.data.downloads import download

    if given is not None:
        path = given / file if given.is_dir() else given
        if not path.is_file() or (len(entry.files) > 1 and not given.is_dir()):
            raise InputError(f"--from {given}: must be {file}" + (" and the others, in a folder" if len(entry.files) > 1 else ""))
        return path
    path = folder / "fetched" / file
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        print(f"{entry.address(file)} -> {path}", flush=True)
        download(entry.address(file), path, entry.md5)
    return path


def _with_folder(keys: str, made: list[Path]) -> str:
    """Keys of `mace-tp train` with the paths of the files that they name."""
    for path in made:
        for before in "=,[":
            keys = keys.replace(f"{before}{path.name}", f"{before}{path}")
    return keys
