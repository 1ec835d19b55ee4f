"""Every published law sees a mistake of its kind: plans of `cg` with one mistake each."""

import dataclasses
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import numpy as np
import pytest

from mace_tp.tensor_products.cg import CG, CGInteraction, CGProductBasis
from mace_tp.tensor_products.testing import HARMONICS, HIDDEN, SCALARS, interaction_of, product_basis_of
from mace_tp.tensor_products.testing import interaction as interaction_laws
from mace_tp.tensor_products.testing import product_basis as basis_laws


@dataclasses.dataclass(frozen=True)
class WrongInteraction(CGInteraction):
    """`cg` with a mistake: (value, weights, features, harmonics) → value."""

    change: Callable[..., jax.Array] = lambda value, *_: value
    factor: float = 1.0  # of the coefficients

    def __call__(self, weights, node_feats, edge_attrs, batch):
        return self.change(super().__call__(weights, node_feats, edge_attrs, batch), weights, node_feats, edge_attrs)

    def coefficients(self, weights):
        return self.factor * super().coefficients(weights)


@dataclasses.dataclass(frozen=True)
class WrongProductBasis(CGProductBasis):
    """`cg` with a mistake: (value, weights, features) → value."""

    change: Callable[..., jax.Array] = lambda value, *_: value
    factor: float = 1.0  # of the coefficients

    def __call__(self, weights, node_feats, species):
        return self.change(super().__call__(weights, node_feats, species), weights, node_feats)

    def coefficients(self, weights):
        return self.factor * super().coefficients(weights)


def _interaction(**mistake) -> WrongInteraction:
    return WrongInteraction(HIDDEN, HARMONICS, HARMONICS, **mistake)


def _basis(**mistake) -> WrongProductBasis:
    return WrongProductBasis(HARMONICS, HIDDEN, 3, **mistake)


def _without_gradient(value: jax.Array, *_) -> jax.Array:
    return jax.lax.stop_gradient(value)


MISTAKES = [
    ("interaction_has_the_shape_that_it_states", _interaction(change=lambda value, *_: value[1:])),
    ("interaction_commutes_with_o3", _interaction(change=lambda value, *_: value.at[-1].multiply(1.001))),
    ("edges_of_zero_weight_send_nothing", _interaction(change=lambda value, _weights, _feats, edges: value + edges.sum())),
    ("node_without_edges_receives_nothing", _interaction(change=lambda value, _weights, feats, _edges: value + feats[:1])),
    ("interaction_treats_each_channel_by_itself", _interaction(change=lambda value, *_: value + 0.1 * value[..., ::-1])),
    ("interaction_uses_every_weight", _interaction(change=lambda value, *_: value.at[:2].set(0))),
    ("interaction_keeps_the_dtype", _interaction(change=lambda value, *_: value.astype(np.float64))),
    ("interaction_has_the_derivatives_of_its_values", _interaction(change=_without_gradient)),
    ("interaction_is_cg_with_its_coordinates", _interaction(factor=2.0)),
    ("interaction_states_what_it_has", _interaction(factor=0.0)),
    ("interaction_is_its_polynomial", _interaction(change=lambda value, *_: 2 * value)),
    ("product_basis_commutes_with_o3", _basis(change=lambda value, *_: value.at[-1].multiply(1.001))),
    ("product_basis_has_the_shape_that_it_states", _basis(change=lambda value, *_: value[1:])),
    ("product_basis_is_a_polynomial_without_a_constant", _basis(change=lambda value, *_: value + 1)),
    ("product_basis_takes_the_weights_of_the_element", _basis(change=lambda value, weights, _feats: value * weights.sum())),
    ("product_basis_uses_every_weight", _basis(change=lambda value, *_: value.at[0].set(0))),
    ("product_basis_keeps_the_dtype", _basis(change=lambda value, *_: value.astype(np.float64))),
    ("product_basis_has_the_derivatives_of_its_values", _basis(change=_without_gradient)),
    ("product_basis_is_cg_with_its_coordinates", _basis(factor=2.0)),
    ("product_basis_states_what_it_has", _basis(factor=0.0)),
    ("product_basis_is_its_polynomial", _basis(change=lambda value, *_: 2 * value)),
]


def test_every_law_of_the_sites_has_a_mistake():
    laws = (*interaction_laws.INTERACTION_LAWS, *basis_laws.PRODUCT_BASIS_LAWS)
    assert {law.__name__ for law in laws} == {name for name, _ in MISTAKES}


@pytest.mark.parametrize(("name", "plan"), MISTAKES, ids=[name for name, _ in MISTAKES])
def test_a_law_sees_the_mistake(name, plan):
    laws = interaction_laws if isinstance(plan, WrongInteraction) else basis_laws
    with pytest.raises(AssertionError):
        vars(laws)[name](plan)


@dataclasses.dataclass(frozen=True)
class OtherIrreps(CG):
    """Makes irreps that it was not asked for."""

    name = "other_irreps"

    def interaction(self, irreps_node, irreps_edge, irreps_keep):
        return super().interaction(irreps_node, irreps_edge, irreps_keep + e3nn.Irreps("1e"))

    def product_basis(self, irreps_in, irreps_out, correlation):
        return super().product_basis(irreps_in, irreps_out + e3nn.Irreps("2e"), correlation)


def test_irreps_that_were_not_asked_for_are_seen():
    with pytest.raises(AssertionError, match="irreps_out has irreps that are not kept"):
        interaction_of(OtherIrreps(), HIDDEN)
    with pytest.raises(AssertionError, match=r"irreps_out is 1x0e\+1x2e instead of 1x0e"):
        product_basis_of(OtherIrreps(), SCALARS)
