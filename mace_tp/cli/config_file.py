"""`mace-tp train --config FILE`: reads a YAML file of the user or the `config.yaml` of a run; the command line overrides it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mace_tp.cli.config_errors import check_keys, group_options, one_line, schema_keys, to_dict
from mace_tp.cli.overrides import for_hydra, store_products
from mace_tp.cli.shipped import config_directory
from mace_tp.config import Config
from mace_tp.errors import InputError
from mace_tp.tensor_products.notation import split_product
from mace_tp.tensor_products.registry import TensorProductConfig

_PRODUCTS = "tensor_product"


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """Keys and group options from a YAML file."""

    schema: DictConfig  # `Config` with the file's values as defaults
    products: str | None  # option of the group `tensor_product` that the file chooses
    names_data: bool  # whether the file names training data

    def overrides(self, line: Sequence[str]) -> list[str]:
        """Return the override that chooses the tensor products of the file, unless the command line chooses some."""
        return [] if self.products is None or _PRODUCTS in _keys(line) else [f"{_PRODUCTS}={self.products}"]


def read_config_file(path: str, line: Sequence[str], *, is_sweep: bool) -> ConfigFile:
    """Read a YAML file with keys of the configuration. Its keys override the options of groups that it names.

    Args:
        path: of the file.
        line: overrides of the command line; an option of a group replaces that of the file.
        is_sweep: whether commas separate values in the line.

    Raises:
        InputError: the file cannot be read, is not YAML, or has a key or a value that cannot be used.
    """
    read = _read(path)
    groups = {name: read.pop(name) for name in group_options() if name in read and not isinstance(read[name], dict)}
    groups = {name: option for name, option in groups.items() if option is not None}
    if wrong := next((name for name, option in groups.items() if not isinstance(option, str)), None):
        raise InputError(f"{path}: {wrong}: must be keys with their values, or the name of an option; got {groups[wrong]}")
    products = groups.pop(_PRODUCTS, None)
    values = _nested(read, path, frozenset(schema_keys()))
    values = {name: value for name, value in values.items() if value is not None or name not in _sections()}
    data = values.get("data")
    try:
        check_keys(OmegaConf.create(values))
        if _PRODUCTS in values:
            products = _stored_products(values.pop(_PRODUCTS) or {}, path)
        schema = _merged(_composed(groups, [] if is_sweep else line), values)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"{path}: {one_line(error)}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    names_data = bool(groups.keys() & {"data", "experiment"}) or (data is not None and data.get("train") is not None)
    return ConfigFile(schema, products, names_data)


def _keys(line: Sequence[str]) -> list[str]:
    return [override.lstrip("+").partition("=")[0] for override in line]


def _sections() -> set[str]:
    return {field.name for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)}


def _composed(groups: Mapping[str, str], line: Sequence[str]) -> DictConfig:
    """Return the configuration with the file's options of groups, or those of the command line instead."""
    if not groups:
        return OmegaConf.structured(Config)
    ConfigStore.instance().store(name="schema", node=Config)
    in_line = [override for override, key in zip(line, _keys(line), strict=True) if key in group_options() and key != _PRODUCTS]
    of_file = [f"{group}={option}" for group, option in groups.items() if group not in _keys(line)]
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = compose("config", for_hydra([*of_file, *in_line], is_sweep=False))
    composed = OmegaConf.masked_copy(composed, [key for key in composed if key != _PRODUCTS])
    return _merged(OmegaConf.structured(Config), composed)


def _merged(config: DictConfig, over: DictConfig | dict[str, Any]) -> DictConfig:
    merged = OmegaConf.merge(config, over)
    assert isinstance(merged, DictConfig)
    return merged


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
    except OSError as error:  # OmegaConf raises one without a reason if the file holds a single number
        raise InputError(f"--config {path}: {error.strerror or 'must hold keys with their values, such as seed: 1'}") from error
    if not isinstance(loaded, DictConfig):
        raise InputError(f"--config {path}: must hold keys with their values, such as seed: 1")
    return to_dict(loaded)


def _nested(values: dict[Any, Any], path: str, keys: frozenset[str], prefix: str = "") -> dict[str, Any]:
    """Write `data.train: FILE` as `data: {train: FILE}`. The value of a key of the configuration stays as it is, also if it is a mapping.

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
    """Store the tensor products of the file as an option of the group; return its name."""
    products = TensorProductConfig(**sites)
    as_mappings = {
        field.name: split_product(site, f"tensor_product.{field.name}={site}") if isinstance(site, str) else site
        for field in dataclasses.fields(products)
        for site in [getattr(products, field.name)]
    }
    return store_products("config_file", TensorProductConfig(**as_mappings))
