"""`config.yaml` of a run directory: every key, as a file that `mace-tp train --config` reads, where `${` refers to another key."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Write a configuration with every key, complete or not at all; `${` in a value, such as a path, is written as text."""
    beside = path.with_suffix(".new")
    beside.write_text(yaml.safe_dump(_each_text(values, _escaped), sort_keys=False, allow_unicode=True), encoding="utf-8")
    beside.replace(path)


def read_config(path: Path) -> Any:
    """The values that `write_config` has been given, or what else a YAML file holds.

    Raises:
        OSError, UnicodeDecodeError, yaml.YAMLError: it cannot be read, or is no YAML.
    """
    return _each_text(yaml.safe_load(path.read_text(encoding="utf-8")), _plain)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _escaped(text: str) -> str:
    """A backslash before `${` makes it text for OmegaConf, and two backslashes before that are one."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def _plain(text: str) -> str:
    return re.sub(r"(\\*)\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", text)
