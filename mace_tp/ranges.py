"""Valid values of the fields of a configuration: metadata beside each default, and one check of them all."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from mace_tp.errors import InputError

T = TypeVar("T")
_RULE = "rule"


class _Rule(NamedTuple):
    is_valid: Callable[[Any], bool]
    text: str
    choices: tuple[str | None, ...] = ()


def positive(default: T) -> T:
    """A field whose number, or every number of whose list, is positive. None, which means absent, is valid here and below."""
    return _field(default, _Rule(lambda value: value > 0, "must be positive"))


def not_negative(default: T) -> T:
    """A field that is zero or positive."""
    return _field(default, _Rule(lambda value: value >= 0, "must not be negative"))


def fraction(default: T) -> T:
    """A field in [0, 1)."""
    return _field(default, _Rule(lambda value: 0 <= value < 1, "must be in [0, 1)"))


def at_least(default: T, least: float, reason: str) -> T:
    """A field with a least value; the message gives the reason."""
    return _field(default, _Rule(lambda value: value >= least, f"must be at least {least}, {reason}"))


def one_of(default: T, choices: tuple[str | None, ...]) -> T:
    """A field that holds one of a few words; None is valid only where it is one of the choices."""
    names = ", ".join("null" if choice is None else choice for choice in choices)
    return _field(default, _Rule(lambda value: value in choices, f"must be one of {names}", choices))


def check_ranges(config: Any) -> None:
    """Check every field of a dataclass, and of the dataclasses in it.

    Raises:
        InputError: names the first field whose value is not valid, the value, and what would be valid.
    """
    for name, field, value in _fields(config):
        if (rule := field.metadata.get(_RULE)) is None:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(rule.is_valid(item) for item in values if item is not None or rule.choices):
            raise InputError(f"{name}={value}: {rule.text}")


def choices_of(schema: type) -> dict[str, tuple[str | None, ...]]:
    """{full name of a field: its valid words} of all fields of a dataclass that hold one of a few words."""
    rules = {name: field.metadata.get(_RULE) for name, field, _ in _fields(schema())}
    return {name: rule.choices for name, rule in rules.items() if rule is not None and rule.choices}


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(full name such as `loss.stage_two.start`, field, value) of every field that is no dataclass itself."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field, value


def _field(default: Any, rule: _Rule) -> Any:
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata={_RULE: rule})
    return dataclasses.field(default=default, metadata={_RULE: rule})
