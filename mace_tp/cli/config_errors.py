"""Hydra's and OmegaConf's messages of several lines → one line that names the key and what would be valid."""

import difflib
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from mace_tp.cli.shipped import config_directory
from mace_tp.config import Config
from mace_tp.errors import InputError
from mace_tp.run_directory import flatten
from mace_tp.tensor_products.notation import meant


def one_line(error: Exception) -> str:
    """What the user got wrong in the configuration, with the full name of the key."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        override = re.search(r"Could not override '([^']+)'", str(error))
        written = override.group(1) if override else ""
        return _unknown_key(written if written.startswith(cause.full_key) else cause.full_key)
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0]}"
    group = re.search(r"Could not find '([^']+)'\n+Available options in '[^']+':\n((?:\t.+\n?)+)", str(cause))
    if group:
        folder, name = group.group(1).rsplit("/", 1)
        valid = group.group(2).split()
        return f"{folder}={name}: no such configuration; {meant(name, valid)}valid: {', '.join(valid)}"
    override = re.search(r"Error parsing override '([^']+)'\nmissing EQUAL", str(cause))
    if override:
        return f"{override.group(1)}: not an override; give KEY=VALUE, such as data.train=FILE"
    text = str(cause).partition("Config search path")[0]
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def check_keys(composed: DictConfig) -> None:
    """Require that every key is in the schema: Hydra lets a `+` add any.

    Raises:
        InputError: names the key, and those that are valid.
    """
    valid = schema_keys()
    for key in flatten(OmegaConf.to_container(composed)):
        if not any(key == name or key.startswith(f"{name}.") for name in valid):
            raise InputError(_unknown_key(key))


def _unknown_key(key: str) -> str:
    parent, _, name = key.rpartition(".")
    prefix = f"{parent}." if parent else ""
    siblings = _children(prefix)
    if siblings:
        close = [prefix + sibling for sibling in difflib.get_close_matches(name, siblings, n=1)]
    else:  # the group itself is misspelt
        close = difflib.get_close_matches(key, schema_keys(), n=1)
    valid = [prefix + sibling for sibling in siblings] or _children("")
    return f"{key}: no such configuration key; " + (f"did you mean {close[0]}?" if close else f"valid: {', '.join(valid)}")


def _children(prefix: str) -> list[str]:
    """Names that may follow a prefix such as `model.`; at the top also the groups that are no part of the schema (`experiment`)."""
    names = [key.removeprefix(prefix).split(".")[0] for key in schema_keys() if key.startswith(prefix)]
    return list(dict.fromkeys([*names, *([] if prefix else group_options())]))


def schema_keys() -> dict[str, Any]:
    """Full names of the keys of the configuration, with their defaults."""
    return flatten(OmegaConf.to_container(OmegaConf.structured(Config)))


def group_options() -> dict[str, list[str]]:
    """Groups of keys, and the names of their files in `configs/`."""
    folders = sorted(folder for folder in config_directory().iterdir() if folder.is_dir())
    return {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in folders}
