"""Every tensor product, with every option, obeys the published laws. A new product needs no edit here."""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensor_product_cases import CASES, CONFIGS, build

from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan, ProductBasisPlan
from mace_tp.tensor_products.registry import TensorProducts, own_product_names
from mace_tp.tensor_products.testing import HIDDEN, NODES, OUTPUTS, equal_plans_are_equal_keys, interaction_of, product_basis_of
from mace_tp.tensor_products.testing.arguments import SPECIES, Edges, nodes_of
from mace_tp.tensor_products.testing.interaction import INTERACTION_LAWS
from mace_tp.tensor_products.testing.product_basis import PRODUCT_BASIS_LAWS


@pytest.fixture(scope="module", params=CASES)
def tensor_products(request) -> TensorProducts:
    return build(request.param)


@pytest.fixture(scope="module", params=NODES, ids=str)
def interaction(tensor_products, request) -> InteractionPlan:
    """Plan of the interaction of the first and of the second layer."""
    return interaction_of(tensor_products.interaction, request.param)


@pytest.fixture(scope="module", params=OUTPUTS, ids=str)
def product_basis(tensor_products, request) -> ProductBasisPlan:
    """Plan of the product basis of the last and of the first layer."""
    return product_basis_of(tensor_products.product_basis, request.param)


def test_a_product_has_to_provide_five_methods_at_most():
    """In all interfaces together."""
    interfaces = (InteractionPlan, ProductBasisPlan, BilinearPlan, TensorProduct)
    methods = [f"{cls.__name__}.{name}" for cls in interfaces if isinstance(cls, abc.ABCMeta) for name in cls.__abstractmethods__]
    assert len(methods) <= 5, methods


def test_every_product_has_a_config_and_every_config_a_product():
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == own_product_names()


def test_every_option_has_examples_for_these_tests(tensor_products):
    for option in dataclasses.fields(tensor_products.interaction):
        assert option.metadata["examples"] and option.default not in option.metadata["examples"]


@pytest.mark.parametrize("law", INTERACTION_LAWS, ids=lambda law: law.__name__)
def test_interaction(law, interaction):
    law(interaction)


@pytest.mark.parametrize("law", PRODUCT_BASIS_LAWS, ids=lambda law: law.__name__)
def test_product_basis(law, product_basis):
    law(product_basis)


def test_equal_plans_are_equal_keys(tensor_products):
    for product in (tensor_products.interaction, tensor_products.product_basis):
        equal_plans_are_equal_keys(product)


@pytest.mark.slow
def test_second_derivatives_in_float32_are_those_of_float64(tensor_products):
    interaction, product_basis = (
        interaction_of(tensor_products.interaction, HIDDEN),
        product_basis_of(tensor_products.product_basis, HIDDEN),
    )
    edges, nodes = Edges.of(interaction), nodes_of(product_basis)

    def of_the_basis(weights: jax.Array, feats: jax.Array) -> list[jax.Array]:
        def value(weights: jax.Array, feats: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(product_basis(weights, feats, SPECIES)))

        return jax.grad(lambda *arguments: jnp.sum(jax.grad(value, 1)(*arguments) ** 2), (0, 1))(weights, feats)

    def of_the_interaction(weights: jax.Array, feats: jax.Array) -> list[jax.Array]:
        harmonics = jnp.asarray(edges.edge_attrs, feats.dtype)

        def message(weights: jax.Array, feats: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(interaction(weights, feats, harmonics, edges.batch)))

        return jax.grad(lambda *arguments: jnp.sum(jax.grad(message, 1)(*arguments) ** 2), (0, 1))(weights, feats)

    for function, arguments in ((of_the_basis, nodes), (of_the_interaction, (edges.weights, edges.node_feats))):
        double = jax.jit(function)(*arguments)
        single = jax.jit(function)(*(np.asarray(argument, np.float32) for argument in arguments))
        for here, there in zip(single, double, strict=True):
            assert here.dtype == np.float32
            np.testing.assert_allclose(here, there, rtol=0, atol=1e-4 * np.abs(there).max())
