"""Translates overrides as people type them into Hydra's grammar: quotes paths and texts, and expands the notation of tensor products.

Hydra's grammar uses `( ) [ ] { } , = ' " $` and more. A path may contain any of them.
"""

import dataclasses
import functools
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from mace_tp.cli.config_errors import group_options
from mace_tp.config import CHOICES, Config
from mace_tp.errors import InputError
from mace_tp.tensor_products.notation import split_product
from mace_tp.tensor_products.registry import TensorProductConfig, parse_products, tensor_product_names

# Keys whose values are paths, or lists of paths.
_PATHS = ("data.train", "data.valid", "data.test", "data.isolated_atoms", "model.init_from", "run_dir")
# Below these any key is allowed: the options of a tensor product. `++` makes Hydra accept a key that is not in the schema.
_SITES = ("tensor_product.interaction", "tensor_product.product_basis")
_PRODUCTS = "tensor_product"


def for_hydra(overrides: Sequence[str], *, is_sweep: bool) -> list[str]:
    """Return the overrides in Hydra's grammar.

    Args:
        overrides: KEY=VALUE, with or without `+`, `++` and `~`.
        is_sweep: commas separate the values of jobs.

    Raises:
        InputError: there is no such tensor product, or Hydra cannot read a value; the message says how to write it.
    """
    # A site must come before its options, because it replaces everything below it.
    in_order = sorted(overrides, key=lambda override: _split(override)[1] not in _SITES)
    return [part for override in in_order for part in _for_hydra(override, overrides, is_sweep)]


def store_products(name: str, sites: TensorProductConfig) -> str:
    """Store tensor products as an option of Hydra's group `tensor_product`; return the option in quotes."""
    folder, _, file = f"{_PRODUCTS}/{name}".rpartition("/")
    ConfigStore.instance().store(name=file, node=dataclasses.asdict(sites), group=folder)
    return _quoted(name)


def _split(override: str) -> tuple[str, str, str]:
    """Split an override into prefix, key and value."""
    name, _, value = override.partition("=")
    key = name.lstrip("+~")
    return name.removesuffix(key), key, value


def _for_hydra(override: str, all_overrides: Sequence[str], is_sweep: bool) -> list[str]:
    prefix, key, value = _split(override)
    if key == _PRODUCTS:
        return [f"{prefix}{key}={_products(value, is_sweep)}"]
    if key in _SITES:
        has_options = any(_split(other)[1].startswith(f"{key}.") for other in all_overrides)
        replaced = [f"++{key}=null"] if has_options else []
        return [*replaced, f"++{key}={_site(key, value, is_sweep, as_mapping=has_options)}"]
    if key.startswith(tuple(f"{site}." for site in _SITES)):
        prefix = "++"
    elif key == "run_dir":
        value = _path(value)
    elif key in _PATHS:
        value = _paths(key, value, is_sweep)
    elif key in _free_texts() and not _is_text(value, is_sweep):
        value = _quoted(value)
    _require_readable(prefix, key, value)
    return [f"{prefix}{key}={value}"]


def _require_readable(prefix: str, key: str, value: str) -> None:
    if not re.fullmatch(r"[\w./@:-]+", key):
        raise InputError(f"{prefix}{key}={value}: not an override; give KEY=VALUE, such as data.train=FILE")
    try:
        override = OverridesParser.create().parse_override(f"{prefix}{key}={value}")
    except HydraException as error:
        written = shlex.quote(f"{prefix}{key}={QuotedString(value, Quote.double).with_quotes()}")
        raise InputError(f"{key}={value}: ( ) [ ] {{ }} , = and more are part of Hydra's grammar; write text as {written}") from error
    groups = {} if "~" in prefix or override.is_sweep_override() else group_options()
    if key in groups and not isinstance(override.value(), str | list | dict):
        raise InputError(f"{key}={value}: must be the name of an option; valid: {', '.join(groups[key])}")


def _path(value: str) -> str:
    """Return a path in quotes, unless it is null or in quotes already."""
    if value in ("", "null") or (_is_quoted(value) and not _exists(value)):
        return value
    # The name of an existing path is taken literally; a new run_dir may contain interpolations of other keys.
    return _quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if _exists(value) else value)


def _paths(key: str, value: str, is_sweep: bool) -> str:
    """Quote one path, the paths of a list, or those of a sweep."""
    items = [value] if _exists(value) else _items(value)
    if len(items) > 1 and is_sweep:
        return ",".join(_paths(key, item, is_sweep=False) for item in items)
    if len(items) > 1 and all(map(_exists, items)):
        raise InputError(f"{key}={value}: write several files as {shlex.quote(f'{key}=[{value}]')}; a sweep over them needs -m")
    if value.startswith("[") and value.endswith("]") and not _exists(value):
        return f"[{','.join(map(_path, _items(value[1:-1])))}]"
    return value if is_sweep and _is_function(value) else _path(value)


def _items(text: str) -> list[str]:
    """Split at commas outside quotes and brackets. An existing path is one item, even if it contains commas."""
    parts, items = text.split(","), []
    while parts:
        longest_first = [",".join(parts[:count]) for count in range(len(parts), 0, -1)]
        whole = next((item for item in longest_first if _exists(item.strip())), None) or next(
            filter(_is_closed, reversed(longest_first)), parts[0]
        )
        del parts[: whole.count(",") + 1]
        items.append(whole.strip())
    return [item for item in items if item]


def _exists(path: str) -> bool:
    return bool(path) and os.path.exists(os.path.expanduser(path))


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def _is_closed(text: str) -> bool:
    """Whether the quote or the brackets at the start of the text are closed."""
    text = text.strip()
    if text.startswith(("'", '"')):
        return _is_quoted(text)
    return not text.startswith("[") or text.count("[") == text.count("]")


def _is_function(text: str) -> bool:
    """Whether this is a function of Hydra's sweeps, such as choice(1,2) or range(1,4)."""
    return re.fullmatch(r"\w+\(.*\)", text) is not None


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


@functools.cache
def _free_texts() -> frozenset[str]:
    """Return the keys whose values are free text."""
    return frozenset(_of_type(Config, (str, str | None))) - {*_PATHS, *CHOICES}


def _of_type(of: Any, types: tuple[Any, ...], prefix: str = "") -> Iterator[str]:
    """Yield the full names of the fields of some types in a dataclass and in the dataclasses within it."""
    for field in dataclasses.fields(of):
        if dataclasses.is_dataclass(field.type):
            yield from _of_type(field.type, types, f"{prefix}{field.name}.")
        elif field.type in types:
            yield f"{prefix}{field.name}"


def _is_text(value: str, is_sweep: bool) -> bool:
    """Whether Hydra reads one value or, in a sweep, several."""
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return is_sweep if override.is_sweep_override() else not isinstance(override.value(), list | dict)


def _products(value: str, is_sweep: bool) -> str:
    """Return options of the group `tensor_product`. Products without a YAML file and products in notation become new options."""
    if _is_function(value):
        return value
    return ",".join(text if _is_file(text) else store_products(text, parse_products(text)) for text in _texts(value, is_sweep))


def _is_file(text: str) -> bool:
    """Whether Hydra shall look for a YAML file of this name: there is one, or there is no product of this name."""
    is_notation = re.search("[/:]", text) is not None
    return not is_notation and (text in group_options()[_PRODUCTS] or text not in tensor_product_names())


def _site(key: str, value: str, is_sweep: bool, *, as_mapping: bool) -> str:
    """Return the product of a site as text, or as a mapping to which options can be added."""
    if value.startswith("{") or value in ("", "null") or _is_function(value):
        return value
    products = [(text, split_product(text, f"{key}={text}")) for text in _texts(value, is_sweep)]
    return ",".join(_mapping(product) if as_mapping else _quoted(text) for text, product in products)


def _texts(value: str, is_sweep: bool) -> list[str]:
    """Return the values of a sweep without quotes. A value may contain commas: `:option=value,option=value`."""
    texts = re.split(r",(?![^,:/]*=)", value) if is_sweep else [value]
    return [text[1:-1] if _is_quoted(text) else text for text in map(str.strip, texts)]


def _mapping(product: Mapping[str, Any]) -> str:
    return (
        f"{{{','.join(f'{name}: {_quoted(value) if isinstance(value, str) else json.dumps(value)}' for name, value in product.items())}}}"
    )
