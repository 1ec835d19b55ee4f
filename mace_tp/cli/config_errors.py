"""Turns Hydra's and OmegaConf's errors of several lines into one line that names the key and the valid values."""

import difflib
import re
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from mace_tp.cli.shipped import config_directory
from mace_tp.config import Config
from mace_tp.errors import InputError
from mace_tp.run_directory import flatten
from mace_tp.tensor_products.notation import meant
from mace_tp.tensor_products.registry import tensor_product_names


def one_line(error: Exception) -> str:
    """Return the mistake in the configuration as one line, with the full name of the key."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        override = re.search(r"Could not override '([^']+)'", str(error))
        key, written = cause.full_key or "", override.group(1) if override else ""
        return _unknown_key(written if written.startswith(key) else key)
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0]}"
    group = re.search(r"Could not find '([^']+)'\n+Available options in '[^']+':\n((?:\t.+\n?)+)", str(cause))
    if group:
        folder, name = group.group(1).rsplit("/", 1)
        # A product of another package has no file, but may be what was meant.
        valid = sorted({*group.group(2).split(), *(tensor_product_names() if folder == "tensor_product" else ())})
        return f"{folder}={name}: no such configuration; {meant(name, valid)}valid: {', '.join(valid)}"
    override = re.search(r"Error parsing override '([^']+)'\nmissing EQUAL", str(cause))
    if override:
        return f"{override.group(1)}: not an override; give KEY=VALUE, such as data.train=FILE"
    text = str(cause).partition("Config search path")[0]
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def check_keys(composed: DictConfig) -> None:
    """Require that every key is in the schema, because Hydra lets `+` add any key.

    Raises:
        InputError: names the unknown key and the valid ones.
    """
    valid = schema_keys()
    for key in flatten(to_dict(composed)):
        if not any(key == name or key.startswith(f"{name}.") for name in valid):
            raise InputError(_unknown_key(key))


def to_dict(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as nested dictionaries."""
    return cast("dict[str, Any]", OmegaConf.to_container(config))


def to_config(composed: DictConfig | ListConfig) -> Config:
    """Return a composed configuration as the dataclass."""
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    return config


def _unknown_key(key: str) -> str:
    parent, _, name = key.rpartition(".")
    prefix = f"{parent}." if parent else ""
    siblings = _children(prefix)
    if siblings:
        close = [prefix + sibling for sibling in difflib.get_close_matches(name, siblings, n=1)]
    else:  # the group itself is misspelled
        close = difflib.get_close_matches(key, schema_keys(), n=1)
    valid = [prefix + sibling for sibling in siblings] or _children("")
    return f"{key}: no such configuration key; " + (f"did you mean {close[0]}?" if close else f"valid: {', '.join(valid)}")


def _children(prefix: str) -> list[str]:
    """Return the names that may follow a prefix such as `model.`. At the top these include the groups outside the schema (`experiment`)."""
    names = [key.removeprefix(prefix).split(".")[0] for key in schema_keys() if key.startswith(prefix)]
    return list(dict.fromkeys([*names, *([] if prefix else group_options())]))


def schema_keys() -> dict[str, Any]:
    """Return the full names of all keys of the configuration, with their defaults."""
    return flatten(to_dict(OmegaConf.structured(Config)))


def group_options() -> dict[str, list[str]]:
    """Return the groups of keys with the names of their files in `configs/`."""
    folders = sorted(folder for folder in config_directory().iterdir() if folder.is_dir())
    return {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in folders}
