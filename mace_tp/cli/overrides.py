"""Overrides as people type them → as Hydra reads them: paths and texts in quotes, tensor products by their notation.

Hydra takes `( ) [ ] { } , = ' " $` and more for its own grammar. A path may hold any of them.
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
# Below these any key may come: the options of a tensor product. `++` tells Hydra not to look for it in the schema.
_SITES = ("tensor_product.interaction", "tensor_product.product_basis")
_PRODUCTS = "tensor_product"


def for_hydra(overrides: Sequence[str], *, is_sweep: bool) -> list[str]:
    """The same overrides, in Hydra's grammar.

    Args:
        overrides: KEY=VALUE, with or without `+`, `++` and `~`.
        is_sweep: commas separate the values of jobs.

    Raises:
        InputError: there is no such tensor product, or a value that Hydra cannot read; says how it is written.
    """
    # A site before its options, which would be lost with what they are added to.
    in_order = sorted(overrides, key=lambda override: _split(override)[1] not in _SITES)
    return [part for override in in_order for part in _for_hydra(override, overrides, is_sweep)]


def store_products(name: str, sites: TensorProductConfig) -> str:
    """Make tensor products an option of Hydra's group `tensor_product`; returns the option in quotes."""
    folder, _, file = f"{_PRODUCTS}/{name}".rpartition("/")
    ConfigStore.instance().store(name=file, node=dataclasses.asdict(sites), group=folder)
    return _quoted(name)


def _split(override: str) -> tuple[str, str, str]:
    """Prefix, key and value."""
    return re.fullmatch(r"([+~]*)([^=]*)=(.*)", override, flags=re.DOTALL).groups()


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
        raise InputError(f"{key}={value}: Hydra has its own use for ( ) [ ] {{ }} , = and others; text is written {written}") from error
    groups = {} if "~" in prefix or override.is_sweep_override() else group_options()
    if key in groups and not isinstance(override.value(), str | list | dict):
        raise InputError(f"{key}={value}: must be the name of an option; valid: {', '.join(groups[key])}")


# Paths and other texts


def _path(value: str) -> str:
    """A path in quotes, unless it is in quotes already or null."""
    if value in ("", "null") or (_is_quoted(value) and not _exists(value)):
        return value
    # The name of an existing path is taken literally; a new run_dir may contain interpolations of other keys.
    return _quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if _exists(value) else value)


def _paths(key: str, value: str, is_sweep: bool) -> str:
    """The same for one path, a list, and the values of a sweep."""
    items = [value] if _exists(value) else _items(value)
    if len(items) > 1 and is_sweep:
        return ",".join(_paths(key, item, is_sweep=False) for item in items)
    if len(items) > 1 and all(map(_exists, items)):
        raise InputError(f"{key}={value}: several files are written {shlex.quote(f'{key}=[{value}]')}; a sweep over them needs -m")
    if value.startswith("[") and value.endswith("]") and not _exists(value):
        return f"[{','.join(map(_path, _items(value[1:-1])))}]"
    return value if is_sweep and _is_function(value) else _path(value)


def _items(text: str) -> list[str]:
    """Items that are separated by commas outside quotes and brackets. An existing path is one item, even with commas."""
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
    """Whether the quote or the brackets that the text begins with have their end."""
    text = text.strip()
    if text.startswith(("'", '"')):
        return _is_quoted(text)
    return not text.startswith("[") or text.count("[") == text.count("]")


def _is_function(text: str) -> bool:
    """Such as choice(1,2) or range(1,4), which a sweep takes."""
    return re.fullmatch(r"\w+\(.*\)", text) is not None


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


@functools.cache
def _free_texts() -> frozenset[str]:
    """Keys that take any text."""
    return frozenset(_of_type(Config, (str, str | None))) - {*_PATHS, *CHOICES}


def _of_type(of: type, types: tuple[Any, ...], prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(of):
        if dataclasses.is_dataclass(field.type):
            yield from _of_type(field.type, types, f"{prefix}{field.name}.")
        elif field.type in types:
            yield f"{prefix}{field.name}"


def _is_text(value: str, is_sweep: bool) -> bool:
    """Whether Hydra reads one value, or those of a sweep."""
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return is_sweep if override.is_sweep_override() else not isinstance(override.value(), list | dict)


# Tensor products


def _products(value: str, is_sweep: bool) -> str:
    """Options of the group `tensor_product`; products without a YAML file, and texts in our notation, become options of their own."""
    if _is_function(value):
        return value
    return ",".join(text if _is_file(text) else store_products(text, parse_products(text)) for text in _texts(value, is_sweep))


def _is_file(text: str) -> bool:
    """Whether Hydra shall look for a YAML file of this name: there is one, or there is no product of this name."""
    is_notation = re.search("[/:]", text) is not None
    return not is_notation and (text in group_options()[_PRODUCTS] or text not in tensor_product_names())


def _site(key: str, value: str, is_sweep: bool, *, as_mapping: bool) -> str:
    """One product for a site, as text, or as a mapping to which options can be added."""
    if value.startswith("{") or value in ("", "null") or _is_function(value):
        return value
    products = [(text, split_product(text, f"{key}={text}")) for text in _texts(value, is_sweep)]
    return ",".join(_mapping(product) if as_mapping else _quoted(text) for text, product in products)


def _texts(value: str, is_sweep: bool) -> list[str]:
    """The values of a sweep, of which one may hold `:option=value,option=value`; without quotes."""
    texts = re.split(r",(?![^,:/]*=)", value) if is_sweep else [value]
    return [text[1:-1] if _is_quoted(text) else text for text in map(str.strip, texts)]


def _mapping(product: Mapping[str, Any]) -> str:
    return (
        f"{{{','.join(f'{name}: {_quoted(value) if isinstance(value, str) else json.dumps(value)}' for name, value in product.items())}}}"
    )
