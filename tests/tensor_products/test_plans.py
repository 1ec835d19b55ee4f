"""Laws that the plans of every tensor product obey. The names come from the modules: a new product needs no edit here."""

import pathlib

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.config import TensorProductConfig, build_tensor_products, tensor_product_names
from mace_tp.model import TensorProducts

HARMONICS = e3nn.s2_irreps(2)
HIDDEN = e3nn.Irreps("0e+1o")
CORRELATION = 3
SPECIES = np.array([0, 1, 2, 1])
CONFIGS = pathlib.Path(__file__).parents[2] / "configs" / "tensor_product"


@pytest.fixture(scope="module", params=tensor_product_names())
def tensor_products(request) -> TensorProducts:
    return build_tensor_products(TensorProductConfig(request.param, request.param))


@pytest.fixture(scope="module")
def interaction(tensor_products):
    """Plan of the second layer's interaction."""
    return tensor_products.interaction.interaction(HIDDEN, HARMONICS, HARMONICS)


@pytest.fixture(scope="module")
def product_basis(tensor_products):
    """Plan of the first layer's product basis."""
    return tensor_products.product_basis.product_basis(HARMONICS, HIDDEN, CORRELATION)


@pytest.fixture
def edges(make_edges, interaction):
    return make_edges(interaction.num_weights, HIDDEN, HARMONICS)


@pytest.fixture
def nodes(product_basis) -> tuple[np.ndarray, np.ndarray]:
    """Weights [num_weights, elements, channels] and features [components, nodes, channels]."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(product_basis.num_weights, 3, 2)), rng.normal(size=(HARMONICS.dim, len(SPECIES), 2))


def _turned(features: np.ndarray, irreps: e3nn.Irreps, matrix: np.ndarray) -> np.ndarray:
    """Features [components, ...] seen after an element of O(3)."""
    return np.tensordot(np.array(irreps.D_from_matrix(matrix)), features, axes=1)


def _contract(plan, weights: np.ndarray, feats: np.ndarray) -> jax.Array:
    return jax.jit(plan.__call__)(weights, feats, SPECIES)


def _interact(plan, edges, **changes) -> jax.Array:
    arguments = dict(weights=edges.weights, node_feats=edges.node_feats, edge_attrs=edges.edge_attrs) | changes
    return jax.jit(plan.__call__)(**arguments, senders=edges.senders, receivers=edges.receivers)


def test_every_product_has_a_config_and_every_config_a_product():
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == tensor_product_names()


def test_interaction_has_the_shape_that_it_says(interaction, edges):
    assert _interact(interaction, edges).shape == (interaction.irreps_out.dim, *edges.node_feats.shape[1:])
    assert {mul_ir.ir for mul_ir in interaction.irreps_out} <= {mul_ir.ir for mul_ir in HARMONICS}


def test_interaction_commutes_with_o3(interaction, edges, matrix):
    after = _turned(np.array(_interact(interaction, edges)), interaction.irreps_out, matrix)
    before = _interact(
        interaction, edges,
        node_feats=_turned(edges.node_feats, HIDDEN, matrix), edge_attrs=_turned(edges.edge_attrs.T, HARMONICS, matrix).T,
    )  # fmt: skip
    assert np.abs(after).max(axis=(1, 2)).min() > 1e-2, "an output that is zero is equivariant too"
    np.testing.assert_allclose(before, after, atol=1e-10)


def test_edges_of_zero_weight_send_nothing(interaction, edges):
    here = _interact(interaction, edges)
    rng = np.random.default_rng(7)
    padded = ~edges.mask[:, None]
    there = _interact(interaction, edges, edge_attrs=np.where(padded, rng.normal(size=edges.edge_attrs.shape), edges.edge_attrs))
    assert padded.any()
    np.testing.assert_array_equal(here, there)


def test_node_without_edges_gets_nothing_and_the_others_something(interaction, edges):
    message = np.abs(_interact(interaction, edges)).max(axis=(0, 2))
    assert message[1] == 0 and message[[0, 2, 3]].min() > 1e-2


def test_interaction_treats_each_channel_by_itself(interaction, edges):
    feats = edges.node_feats.copy()
    feats[..., 1] = 0
    message = _interact(interaction, edges, node_feats=feats)
    np.testing.assert_array_equal(message[..., 1], 0)
    np.testing.assert_allclose(message[..., 0], _interact(interaction, edges)[..., 0], atol=1e-12)


def test_interaction_uses_every_weight(interaction, edges):
    here = _interact(interaction, edges)
    for i in range(interaction.num_weights):
        weights = [weight * (j != i) for j, weight in enumerate(edges.weights)]
        assert np.abs(_interact(interaction, edges, weights=weights) - here).max() > 1e-2, i


def test_product_basis_commutes_with_o3(product_basis, nodes, matrix):
    weights, feats = nodes
    after = _turned(np.array(_contract(product_basis, weights, feats)), product_basis.irreps_out, matrix)
    before = _contract(product_basis, weights, _turned(feats, HARMONICS, matrix))
    assert np.abs(after).max(axis=(1, 2)).min() > 1e-2, "an output that is zero is equivariant too"
    np.testing.assert_allclose(before, after, atol=1e-10)


def test_product_basis_has_the_irreps_that_were_asked_for(product_basis, nodes):
    assert product_basis.irreps_out == HIDDEN
    weights, feats = nodes
    assert _contract(product_basis, weights, feats).shape == (HIDDEN.dim, len(SPECIES), 2)
    assert len(product_basis.weight_scales) == product_basis.num_weights and min(product_basis.weight_scales) > 0


def test_product_basis_is_a_polynomial_of_the_correlation_without_a_constant(product_basis, nodes):
    weights, feats = nodes
    values = np.stack([_contract(product_basis, weights, scale * feats) for scale in range(CORRELATION + 2)])
    assert np.abs(values[0]).max() == 0
    # The finite difference of one order more vanishes, that of the correlation itself does not.
    assert np.abs(np.diff(values, CORRELATION, axis=0)).max() > 1e-2
    np.testing.assert_allclose(np.diff(values, CORRELATION + 1, axis=0), 0, atol=1e-11 * np.abs(values).max())


def test_product_basis_takes_the_weights_of_the_element(product_basis, nodes):
    weights, feats = nodes
    other = weights + (np.arange(3) == 1)[:, None]
    difference = np.abs(_contract(product_basis, weights, feats) - _contract(product_basis, other, feats)).max(axis=(0, 2))
    assert (difference[SPECIES != 1] == 0).all() and difference[SPECIES == 1].min() > 1e-2


def test_product_basis_uses_every_weight(product_basis, nodes):
    weights, feats = nodes
    here = _contract(product_basis, weights, feats)
    for i in range(product_basis.num_weights):
        assert np.abs(_contract(product_basis, weights * (np.arange(len(weights)) != i)[:, None, None], feats) - here).max() > 1e-3, i


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_plans_keep_the_dtype(interaction, product_basis, edges, nodes, dtype):
    weights, feats = (jnp.asarray(array, dtype) for array in nodes)
    assert _contract(product_basis, weights, feats).dtype == dtype
    message = _interact(
        interaction, edges, weights=[jnp.asarray(weight, dtype) for weight in edges.weights],
        node_feats=jnp.asarray(edges.node_feats, dtype), edge_attrs=jnp.asarray(edges.edge_attrs, dtype),
    )  # fmt: skip
    assert message.dtype == dtype


def test_equal_plans_hash_equally(tensor_products):
    for plan in (
        lambda: tensor_products.interaction.interaction(HIDDEN, HARMONICS, HARMONICS),
        lambda: tensor_products.product_basis.product_basis(HARMONICS, HIDDEN, 2),
    ):
        assert plan() == plan() and hash(plan()) == hash(plan())
