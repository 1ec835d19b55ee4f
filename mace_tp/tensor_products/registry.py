"""Tensor products by name: from a configuration or a text to objects."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from mace_tp import tensor_products
from mace_tp.errors import InputError
from mace_tp.kernels.linear import Mix, linear_plainly
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.notation import Pair, meant, split_product


@dataclasses.dataclass
class TensorProductConfig:
    """`tensor_product`: one for each site; a name, NAME:option=value,option=value, or {name, **options}."""

    interaction: Any = "cg"
    product_basis: Any = "cg"


@dataclasses.dataclass(frozen=True)
class TensorProducts:
    """The tensor product of each site of the model, and what evaluates the linear maps between them."""

    interaction: TensorProduct
    product_basis: TensorProduct
    mix: Mix = linear_plainly


def build_tensor_products(config: TensorProductConfig) -> TensorProducts:
    return TensorProducts(
        interaction=_build_tensor_product(config.interaction, "tensor_product.interaction"),
        product_basis=_build_tensor_product(config.product_basis, "tensor_product.product_basis"),
    )


def parse_products(text: str) -> TensorProductConfig:
    """The sites of NAME or INTERACTION/PRODUCT_BASIS, each with :option=value,option=value.

    Raises:
        InputError: no such product or option, or a value that it does not take.
    """
    interaction, slash, product_basis = text.partition("/")
    sites = TensorProductConfig(*(split_product(site, text) for site in (interaction, product_basis if slash else interaction)))
    for site in (sites.interaction, sites.product_basis):
        _build_tensor_product(site, "tensor_product")
    return sites


def parse_product(text: str) -> TensorProduct:
    """The tensor product of NAME or INTERACTION/PRODUCT_BASIS, each with :option=value,option=value.

    Raises:
        InputError: no such product or option, or a value that it does not take.
    """
    sites = build_tensor_products(parse_products(text))
    return sites.interaction if sites.interaction == sites.product_basis else Pair(sites.interaction, sites.product_basis)


def tensor_product_names() -> list[str]:
    """Names that `tensor_product` takes: the modules that define one."""
    modules = [module.name for module in pkgutil.iter_modules(tensor_products.__path__)]
    return sorted(name for name in modules if _find_class(name) is not None)


def _build_tensor_product(site: Any, field: str) -> TensorProduct:
    options = split_product(site, f"{field}={site}") if isinstance(site, str) else site
    if not isinstance(options, Mapping) or "name" not in options:
        raise InputError(f"{field}={site}: must be the name of a tensor product, or {{name: NAME, option: value}}")
    options = dict(options)
    name = options.pop("name")
    is_module = name in (module.name for module in pkgutil.iter_modules(tensor_products.__path__))
    cls = _find_class(name) if is_module else None
    if cls is None:
        names = tensor_product_names()
        raise InputError(f"{field}={name}: no such tensor product; {meant(str(name), names)}valid: {', '.join(names)}")
    valid = [option.name for option in dataclasses.fields(cls)]
    unknown = sorted(set(map(str, options)) - set(valid))
    if unknown:
        message = f"{field}.{unknown[0]}: {name} has no such option; {meant(unknown[0], valid)}valid: {', '.join(valid) or 'none'}"
        raise InputError(message)
    try:
        return cls(**options)
    except InputError as error:
        raise InputError(f"{field}: {str(error).removeprefix('tensor_product: ')}") from error


def _find_class(name: str) -> type[TensorProduct] | None:
    module = importlib.import_module(f"{tensor_products.__name__}.{name}")
    defined = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
    return next((value for value in defined if issubclass(value, TensorProduct) and not inspect.isabstract(value)), None)
