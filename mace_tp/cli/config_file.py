"""`mace-tp train --config FILE`: a YAML file of the user's, or the `config.yaml` of a run; overrides of the command line go over it."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mace_tp.cli.config_errors import check_keys, group_options, one_line, schema_keys
from mace_tp.cli.overrides import store_products
from mace_tp.config import Config, TensorProductConfig
from mace_tp.errors import InputError
from mace_tp.product_notation import split_product


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """What a file says."""

    schema: DictConfig  # `Config` with the file's values as defaults
    groups: dict[str, str]  # options of groups that it chooses, such as {"model": "medium"}
    names_data: bool  # whether it says what to train on

    def overrides(self, given: Sequence[str]) -> list[str]:
        """Overrides for the groups that the command line does not choose itself.

        Args:
            given: overrides of the command line.
        """
        keys = {override.lstrip("+").partition("=")[0] for override in given}
        return [f"{group}={option}" for group, option in self.groups.items() if group not in keys]


def read_config_file(path: str) -> ConfigFile:
    """Read a YAML file that has any of the keys of the configuration.

    Raises:
        InputError: it cannot be read, is no YAML, or has a key or a value that cannot be used.
    """
    values = _nested(_read(path), path, frozenset(schema_keys()))
    groups = {name: values.pop(name) for name in group_options() if name in values and not isinstance(values[name], dict)}
    groups = {name: option for name, option in groups.items() if option is not None}
    if wrong := next((name for name, option in groups.items() if not isinstance(option, str)), None):
        raise InputError(f"{path}: {wrong}: must be keys with their values, or the name of an option; got {groups[wrong]}")
    try:
        check_keys(OmegaConf.create(values))
        if "tensor_product" in values:
            groups["tensor_product"] = _stored_products(values.pop("tensor_product"), path)
        schema = OmegaConf.merge(OmegaConf.structured(Config), values)
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {one_line(error)}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    names_data = bool(groups.keys() & {"data", "experiment"}) or values.get("data", {}).get("train") is not None
    return ConfigFile(schema, groups, names_data)


def _read(path: str) -> dict[Any, Any]:
    file = Path(os.path.expanduser(path))
    if file.is_dir():
        raise InputError(f"--config {path}: is a folder; give a YAML file, such as the config.yaml of a run")
    try:
        loaded = OmegaConf.load(file)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise InputError(f"{path}{line}: not YAML ({error.problem or error.context})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except OSError as error:  # without a reason where there is a single number in it
        raise InputError(f"--config {path}: {error.strerror or 'must hold keys with their values, such as seed: 1'}") from error
    if not isinstance(loaded, DictConfig):
        raise InputError(f"--config {path}: must hold keys with their values, such as seed: 1")
    return OmegaConf.to_container(loaded)


def _nested(values: dict[Any, Any], path: str, keys: frozenset[str], prefix: str = "") -> dict[str, Any]:
    """With `data.train: FILE` as `data: {train: FILE}`; the value of a key of the configuration, which may be a mapping, stays as it is.

    Raises:
        InputError: a key is there twice.
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = str(key).split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        full = f"{prefix}{key}"
        value = _nested(value, path, keys, f"{full}.") if isinstance(value, dict) and full not in keys else value
        if not isinstance(place, dict) or (name in place and not (isinstance(value, dict) and isinstance(place[name], dict))):
            raise InputError(f"{path}: {key}: is there twice")
        place[name] = place[name] | value if name in place else value
    return nested


def _stored_products(sites: dict[str, Any], path: str) -> str:
    """The tensor products of the file as an option of the group, in place of the default."""
    products = TensorProductConfig(**sites)
    as_mappings = {
        field.name: split_product(site, f"tensor_product.{field.name}={site}") if isinstance(site, str) else site
        for field in dataclasses.fields(products)
        for site in [getattr(products, field.name)]
    }
    return store_products("config_file", TensorProductConfig(**as_mappings))
