"""Laws that the plans of every tensor product obey, with every option. A new product needs no edit here."""

import dataclasses

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from tensor_product_cases import CASES, CONFIGS, build

from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.tensor_products.registry import TensorProducts, tensor_product_names

HARMONICS = e3nn.s2_irreps(2)
HIDDEN = e3nn.Irreps("0e+1o")
CORRELATION = 3
SPECIES = np.array([0, 1, 2, 1])


@pytest.fixture(scope="module", params=CASES)
def tensor_products(request) -> TensorProducts:
    return build(request.param)


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


def test_every_option_has_examples_for_these_tests(tensor_products):
    for option in dataclasses.fields(tensor_products.interaction):
        assert option.metadata["examples"] and option.default not in option.metadata["examples"]


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


@pytest.mark.slow
def test_second_derivatives_in_float32_are_those_of_float64(interaction, product_basis, edges, nodes):
    def of_the_basis(weights: jax.Array, feats: jax.Array) -> list[jax.Array]:
        def value(weights: jax.Array, feats: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(product_basis(weights, feats, SPECIES)))

        return jax.grad(lambda *arguments: jnp.sum(jax.grad(value, 1)(*arguments) ** 2), (0, 1))(weights, feats)

    def of_the_interaction(weights: jax.Array, feats: jax.Array) -> list[jax.Array]:
        harmonics = jnp.asarray(edges.edge_attrs, feats.dtype)

        def message(weights: jax.Array, feats: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(interaction(list(weights), feats, harmonics, edges.senders, edges.receivers)))

        return jax.grad(lambda *arguments: jnp.sum(jax.grad(message, 1)(*arguments) ** 2), (0, 1))(weights, feats)

    for function, arguments in ((of_the_basis, nodes), (of_the_interaction, (np.stack(edges.weights), edges.node_feats))):
        double = jax.jit(function)(*arguments)
        single = jax.jit(function)(*(np.asarray(argument, np.float32) for argument in arguments))
        for here, there in zip(single, double, strict=True):
            assert here.dtype == np.float32
            np.testing.assert_allclose(here, there, rtol=0, atol=1e-4 * np.abs(there).max())


def test_equal_plans_hash_equally(tensor_products):
    for plan in (
        lambda: tensor_products.interaction.interaction(HIDDEN, HARMONICS, HARMONICS),
        lambda: tensor_products.product_basis.product_basis(HARMONICS, HIDDEN, 2),
    ):
        assert plan() == plan() and hash(plan()) == hash(plan())


def test_derivatives_with_respect_to_the_weights(interaction, product_basis, edges, nodes):
    """First and second reverse derivatives, as training takes them, against central differences."""
    # In float64 a step of 1e-4 leaves an error of about 1e-8 from the next derivative and from rounding.
    accuracy = dict(order=2, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-4)
    weights, feats = nodes
    check_grads(jax.jit(lambda weights, feats: product_basis(weights, feats, SPECIES)), (weights, feats), **accuracy)

    def message(weights: list[jax.Array], node_feats: jax.Array) -> jax.Array:
        return interaction(weights, node_feats, edges.edge_attrs, edges.senders, edges.receivers)

    check_grads(jax.jit(message), (edges.weights, edges.node_feats), **accuracy)


def test_plans_say_what_they_have(interaction, product_basis):
    copies = sum(irrep.mul for irrep in interaction.irreps_out)
    assert interaction.coefficients(np.ones((interaction.num_weights, 5))).shape == (copies, len(interaction.paths()), 5)
    assert {path.out for path in interaction.paths()} == {irrep.ir for irrep in interaction.irreps_out}
    assert 0 < interaction.dof() <= len(interaction.paths())
    assert 0 < product_basis.dof() <= len(product_basis.paths())
    assert {path.out for path in product_basis.paths()} == set(product_basis.reached()) == {irrep.ir for irrep in HIDDEN}


def test_counted_operations_and_bytes_are_those_that_xla_counts(interaction, product_basis):
    # XLA counts what it makes of the program: a fused product may be computed twice, an addition of zero not at all.
    num_nodes, num_edges, channels = 64, 64 * EDGE_BLOCK, 16
    weights, feats = jnp.ones((product_basis.num_weights, 3, channels)), jnp.ones((HARMONICS.dim, num_nodes, channels))
    species = jnp.zeros(num_nodes, jnp.int32)
    counted = jax.jit(product_basis.__call__).lower(weights, feats, species).compile().cost_analysis()
    assert 0.5 < product_basis.flops(num_nodes, channels) / counted["flops"] < 1.5
    components = product_basis.num_weights + HARMONICS.dim + HIDDEN.dim
    _assert_bytes(product_basis.bytes(num_nodes, channels, itemsize=8), 8 * num_nodes * channels * components, counted)

    receivers = jnp.repeat(jnp.arange(num_nodes), EDGE_BLOCK)
    weights = [jnp.ones((num_edges, channels))] * interaction.num_weights
    arguments = (weights, jnp.ones((HIDDEN.dim, num_nodes, channels)), jnp.ones((num_edges, HARMONICS.dim)), receivers, receivers)
    counted = jax.jit(interaction.__call__).lower(*arguments).compile().cost_analysis()
    assert 0.5 < interaction.flops(num_edges, num_nodes, channels) / counted["flops"] < 1.5
    per_edge = (interaction.num_weights + HIDDEN.dim) * channels + HARMONICS.dim + 2  # weights, sender, harmonics, both indices
    least = 8 * (num_edges * per_edge + num_nodes * channels * interaction.irreps_out.dim)
    _assert_bytes(interaction.bytes(num_edges, num_nodes, channels, itemsize=8), least, counted)


def _assert_bytes(count: int, least: int, counted: dict[str, float]) -> None:
    """A kernel without intermediate arrays moves its operands and results once, exactly; any other form what XLA counts, about."""
    assert count >= least
    if count > least:
        assert 0.2 < count / counted["bytes accessed"] < 2


def test_counts_grow_with_the_size(interaction, product_basis):
    for count in (interaction.flops, interaction.bytes):
        assert 0 < count(800, 50, 2) < count(1600, 50, 2) and count(800, 50, 4) <= 2 * count(800, 50, 2)
    for count in (product_basis.flops, product_basis.bytes):
        assert 2 * count(50, 3) == count(100, 3) == count(50, 6) > 0
    assert product_basis.bytes(10, 3, itemsize=8) == 2 * product_basis.bytes(10, 3)
