"""Open data sets that can be fetched: the table of them (`open_sets.yaml`)."""

import dataclasses
import functools
from pathlib import Path

import yaml

from mace_tp.errors import InputError


@dataclasses.dataclass(frozen=True)
class OpenSet:
    """One data set."""

    name: str
    title: str
    elements: str
    configurations: str
    theory: str
    cite: str
    page: str
    licence: str
    read: str  # where these facts were read
    tried: str | None  # the day on which somebody fetched it; None: never
    base: str  # address of its one file, or of the folder of several, which ends in a slash
    files: tuple[str, ...]
    format: str  # a name in `conversion.FORMATS`
    keys: str  # of `mace-tp train`, with names of converted files
    md5: str | None = None  # of its one file, where the publisher gives it

    def address(self, file: str) -> str:
        return self.base + file if self.base.endswith("/") else self.base


@functools.cache
def open_sets() -> dict[str, OpenSet]:
    """All data sets by name."""
    table = yaml.safe_load((Path(__file__).parent / "open_sets.yaml").read_text(encoding="utf-8"))
    return {name: OpenSet(name=name, **{key: _frozen(value) for key, value in entry.items()}) for name, entry in table.items()}


def find_open_set(name: str) -> OpenSet:
    """A data set.

    Raises:
        InputError: there is none of this name; lists those that there are.
    """
    if name not in open_sets():
        raise InputError(f"{name}: no such data set; there are {', '.join(open_sets())}")
    return open_sets()[name]


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    return None if value is None else str(value)
