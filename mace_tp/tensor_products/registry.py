"""Tensor products by name: from a configuration or a text to objects.

An installed package adds products through the entry point group `mace_tp.tensor_products` (docs/add_a_product.md).
"""

import dataclasses
import importlib
import importlib.metadata
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mace_tp.errors import InputError
from mace_tp.kernels.linear import Mix, linear_plainly
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.notation import Pair, meant, split_product

ENTRY_POINTS = "mace_tp.tensor_products"

_LOG = logging.getLogger(__name__)

# Each module is loaded when its product is asked for.
_OWN = {
    "auto": ("mace_tp.tensor_products.auto", "Auto"),
    "cg": ("mace_tp.tensor_products.cg", "CG"),
    "cuequivariance": ("mace_tp.tensor_products.cuequivariance", "Cuequivariance"),
    "gaunt": ("mace_tp.tensor_products.gaunt", "Gaunt"),
    "hybrid": ("mace_tp.tensor_products.hybrid", "Hybrid"),
    "matrix": ("mace_tp.tensor_products.matrix", "Matrix"),
    "spherical_grid": ("mace_tp.tensor_products.spherical_grid", "SphericalGrid"),
    "vector_grid": ("mace_tp.tensor_products.vector_grid", "VectorGrid"),
}


@dataclasses.dataclass
class TensorProductConfig:
    """`tensor_product`: one for each site; a name, NAME:option=value,option=value, or {name, **options}."""

    interaction: Any = "cg"
    product_basis: Any = "cg"


@dataclasses.dataclass(frozen=True)
class TensorProducts:
    """The tensor product of each site of the model, and the function that evaluates the linear maps between them."""

    interaction: TensorProduct
    product_basis: TensorProduct
    mix: Mix = linear_plainly


def build_tensor_products(config: TensorProductConfig) -> TensorProducts:
    """The tensor products of both sites.

    Raises:
        InputError: no such product or option, or a value that it does not take.
    """
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
    """Names that `tensor_product` takes: our products, and those of other installed packages."""
    return sorted(set(_OWN) | set(_entry_points().names))


def own_product_names() -> list[str]:
    """Names of the products of this package."""
    return sorted(_OWN)


def chosen_products(texts: Sequence[str] | None) -> dict[str, TensorProduct]:
    """The products of these texts, by text; None stands for all products with their default options.

    Without texts, a product of another package that cannot be used is left out, with a warning.

    Raises:
        InputError: a text names no such product or option, or a value that the product does not take.
    """
    if texts is not None:
        return {text: parse_product(text) for text in texts}
    products = {name: parse_product(name) for name in own_product_names()}
    for name in sorted(set(tensor_product_names()) - set(products)):
        try:
            products[name] = parse_product(name)
        except InputError as error:
            _LOG.warning("left out: %s", error)
    return products


def _entry_points() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=ENTRY_POINTS)


def _build_tensor_product(site: Any, field: str) -> TensorProduct:
    options = split_product(site, f"{field}={site}") if isinstance(site, str) else site
    if not isinstance(options, Mapping) or "name" not in options:
        raise InputError(f"{field}={site}: must be the name of a tensor product, or {{name: NAME, option: value}}")
    options = dict(options)
    name = options.pop("name")
    cls = _find_class(name, f"{field}={name}")
    valid = [option.name for option in dataclasses.fields(cls)]
    unknown = sorted(set(map(str, options)) - set(valid))
    if unknown:
        message = f"{field}.{unknown[0]}: {name} has no such option; {meant(unknown[0], valid)}valid: {', '.join(valid) or 'none'}"
        raise InputError(message)
    try:
        return cls(**options)
    except InputError as error:
        raise InputError(f"{field}: {str(error).removeprefix('tensor_product: ')}") from error
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{option}={value}" for option, value in options.items()) or "its default options"
        raise InputError(f"{field}: {name} cannot be made with {given} ({type(error).__name__}: {error})") from error


def _find_class(name: Any, text: str) -> type[TensorProduct]:
    """The class of a registered product. Our own names come first."""
    if isinstance(name, str) and name in _OWN:
        module, cls = _OWN[name]
        return getattr(importlib.import_module(module), cls)
    found = _entry_points().select(name=str(name))
    if not found:
        names = tensor_product_names()
        raise InputError(f"{text}: no such tensor product; {meant(str(name), names)}valid: {', '.join(names)}")
    if len({point.value for point in found}) > 1:
        raise InputError(f"{text}: several installed packages have this product: {', '.join(sorted(map(_origin, found)))}; uninstall one")
    return _loaded(next(iter(found)), text)


def _loaded(point: importlib.metadata.EntryPoint, text: str) -> type[TensorProduct]:
    try:
        cls = point.load()
    except Exception as error:  # the code of another package can raise anything
        raise InputError(f"{text}: {_origin(point)} cannot be loaded ({type(error).__name__}: {error})") from error
    if not (isinstance(cls, type) and issubclass(cls, TensorProduct)):
        raise InputError(f"{text}: {_origin(point)} does not inherit from mace_tp.tensor_products.base.TensorProduct")
    if inspect.isabstract(cls):
        raise InputError(f"{text}: {_origin(point)} lacks methods: {', '.join(sorted(cls.__abstractmethods__))}")
    if getattr(cls, "name", None) != point.name:
        said = f"is named {cls.name!r}" if hasattr(cls, "name") else "has no `name`"
        raise InputError(f"{text}: {_origin(point)} {said}; it must be the name of its entry point: name: ClassVar[str] = {point.name!r}")
    return cls


def _origin(point: importlib.metadata.EntryPoint) -> str:
    """For messages: the class, and the package that registers it."""
    return f"{point.value} (of {point.dist.name})" if point.dist else point.value
