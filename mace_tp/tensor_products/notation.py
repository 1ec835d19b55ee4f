"""Tensor products as text: NAME or INTERACTION/PRODUCT_BASIS, each with :option=value,option=value, such as cg/spherical_grid:rank=2.

The command line takes this notation for every tensor product, and tables print it.
"""

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import e3nn_jax as e3nn

from mace_tp.errors import InputError
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan, ProductBasisPlan


@dataclasses.dataclass(frozen=True)
class Pair(TensorProduct):
    """One tensor product in the interaction and another in the product basis; the bilinear map is that of the interaction."""

    of_interaction: TensorProduct
    of_product_basis: TensorProduct

    @property
    def name(self) -> str:
        return f"{self.of_interaction.name}/{self.of_product_basis.name}"

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        return self.of_interaction.interaction(irreps_node, irreps_edge, irreps_keep)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        return self.of_product_basis.product_basis(irreps_in, irreps_out, correlation)

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BilinearPlan:
        return self.of_interaction.bilinear(irreps_1, irreps_2, irreps_keep)


def split_product(site: str, text: str) -> dict[str, Any]:
    """Name and options of NAME:option=value,option=value.

    Args:
        site: one product.
        text: the whole text, for messages.

    Raises:
        InputError: an option is not of this form, or there are two products.
    """
    if "/" in site:
        raise InputError(f"{text}: one product for each site; tensor_product=INTERACTION/PRODUCT_BASIS sets both")
    name, colon, options = site.partition(":")
    split: dict[str, Any] = {"name": name}
    for option in options.split(",") if colon else ():
        key, has_value, value = option.partition("=")
        if not (key and has_value):
            raise InputError(f"{text}: an option is written option=value, such as spherical_grid:rank=2")
        split[key] = _value(value)
    return split


def products_text(interaction: Any, product_basis: Any) -> str:
    """The two sites of a configuration as the text that `parse_products` takes."""
    texts = [site_text(site) for site in (interaction, product_basis)]
    return texts[0] if texts[0] == texts[1] else "/".join(texts)


def _value(text: str) -> Any:
    """A number, true, false or null; any other text stays text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def site_text(site: Any) -> str:
    """A site of a configuration, a name or {name, **options}, as NAME:option=value,option=value."""
    if not isinstance(site, Mapping):
        return str(site)
    options = ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(site.items()) if key != "name")
    return ":".join(filter(None, [str(site.get("name")), options]))


def meant(word: str, valid: Sequence[str]) -> str:
    """For messages: "did you mean WORD? " with the valid word closest to the given one; empty if none is close."""
    close = difflib.get_close_matches(word.lower(), valid, n=1)
    return f"did you mean {close[0]}? " if close else ""
