"""The Clebsch-Gordan plans against direct sums, and their derivatives against finite differences."""

import itertools
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from mace_tp.tensor_products.algebra.analysis import interaction_paths
from mace_tp.tensor_products.algebra.irreps import rows_of
from mace_tp.tensor_products.algebra.symmetric_basis import symmetric_basis
from mace_tp.tensor_products.cg import CG

L_MAX = [0, 1, 2, 3]
CORRELATION = [1, 2, 3, 4]


def _hidden(l_max: int) -> e3nn.Irreps:
    """Scalars, and vectors where the harmonics can reach them."""
    return e3nn.Irreps("0e+1o" if l_max > 0 else "0e")


def _direct_interaction(plan, edges) -> np.ndarray:
    """Σ over real edges, path by path, with e3nn's coupling tensors."""
    message = []
    node_rows, edge_rows = rows_of(plan.irreps_node), rows_of(plan.irreps_edge)
    for path, weight in zip(interaction_paths(plan), np.moveaxis(edges.weights, 1, 0), strict=True):
        node = edges.node_feats[node_rows[path.node]][:, edges.batch.senders]
        edge = edges.edge_attrs[:, edge_rows[path.edge]]
        coupling = np.sqrt(2 * path.out.l + 1) * np.array(e3nn.clebsch_gordan(path.node.l, path.edge.l, path.out.l))
        value = np.einsum("ijk,iec,ej,ec->kec", coupling, node, edge, weight)
        summed = np.zeros((path.out.dim, *edges.node_feats.shape[1:]))
        for slot in np.flatnonzero(edges.mask):
            summed[:, edges.batch.receivers[slot]] += value[:, slot]
        message.append(summed)
    return np.concatenate(message)


@pytest.mark.parametrize("node_irreps", ["0e", "0e+1o", "0e+1o+2e", "0e+1o+1e"])
@pytest.mark.parametrize("l_max", L_MAX)
def test_interaction_is_the_sum_over_edges(make_edges, l_max, node_irreps):
    node_irreps, harmonics = e3nn.Irreps(node_irreps), e3nn.s2_irreps(l_max)
    plan = CG().interaction(node_irreps, harmonics, harmonics)
    edges = make_edges(plan.num_weights, node_irreps, harmonics)
    message = jax.jit(plan.__call__)(edges.weights, edges.node_feats, edges.edge_attrs, edges.batch)
    np.testing.assert_allclose(message, _direct_interaction(plan, edges), atol=1e-12)


def test_paths_of_the_second_layer_are_those_of_mace_torch():
    plan = CG().interaction(e3nn.Irreps("0e+1o"), e3nn.s2_irreps(3), e3nn.s2_irreps(3))
    paths = [(path.node.l, path.edge.l, path.out.l) for path in interaction_paths(plan)]
    assert paths == [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 2, 1), (0, 2, 2), (1, 1, 2), (1, 3, 2), (0, 3, 3), (1, 2, 3)]
    assert plan.irreps_out == e3nn.Irreps("2x0e+3x1o+3x2e+2x3o")


def _direct_product_basis(irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int, weights, feats, species) -> np.ndarray:
    """Full symmetric tensors, contracted with one copy of the features after another."""
    outputs, weight = [0.0] * len(irreps_out), 0
    for order in range(1, correlation + 1):
        for i, mul_ir in enumerate(irreps_out):
            basis = symmetric_basis(irreps_in, mul_ir.ir, order)
            tensor = np.zeros((*basis.table.shape[:2], *[irreps_in.dim] * order))
            for column, monomial in enumerate(basis.monomials.tolist()):
                orderings = set(itertools.permutations(monomial))
                for ordering in orderings:
                    tensor[(slice(None), slice(None), *ordering)] = basis.table[:, :, column] / len(orderings)
            value = np.einsum("em...i,inc->nc...em", np.moveaxis(tensor, 2, -1), feats)
            for _ in range(order - 1):
                value = np.einsum("nci...,inc->nc...", value, feats)
            count = len(basis.table)
            outputs[i] = outputs[i] + np.einsum("ncem,enc->mnc", value, weights[weight : weight + count][:, species])
            weight += count
    return np.concatenate(outputs)


def _random_nodes(plan, irreps_in: e3nn.Irreps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, one channel of features and elements of three nodes."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(plan.num_weights, 2, 1)), rng.normal(size=(irreps_in.dim, 3, 1)), np.array([0, 1, 0])


@pytest.mark.parametrize("l_max, correlation", [*itertools.product([0, 1, 2], CORRELATION), (3, 1), (3, 2), (3, 3)])
def test_product_basis_is_the_contraction_with_symmetric_tensors(l_max, correlation):
    harmonics, hidden = e3nn.s2_irreps(l_max), _hidden(l_max)
    plan = CG().product_basis(harmonics, hidden, correlation)
    weights, feats, species = _random_nodes(plan, harmonics)
    expected = _direct_product_basis(harmonics, hidden, correlation, weights, feats, species)
    np.testing.assert_allclose(jax.jit(plan.__call__)(weights, feats, species), expected, atol=1e-11 * np.abs(expected).max())


def test_start_of_the_weights_is_that_of_mace_torch():
    """One over the columns of mace-torch's tables, order by order and irrep by irrep."""
    plan = CG().product_basis(e3nn.s2_irreps(3), e3nn.Irreps("0e+1o"), 3)
    expected = [1] + [1] + [1 / 4] * 4 + [1 / 6] * 3 + [1 / 23] * 8 + [1 / 51] * 12
    np.testing.assert_allclose(plan.weight_scales, expected, rtol=1e-14)


@pytest.mark.parametrize("l_max, hidden, correlation", [(3, "0e+1o+1e", 3), (1, "0e+1o+2e", 2)], ids=["1e", "2e from vectors"])
def test_order_that_reaches_nothing_is_left_out(l_max, hidden, correlation):
    harmonics, hidden = e3nn.s2_irreps(l_max), e3nn.Irreps(hidden)
    plan = CG().product_basis(harmonics, hidden, correlation)
    weights, feats, species = _random_nodes(plan, harmonics)
    expected = _direct_product_basis(harmonics, hidden, correlation, weights, feats, species)
    np.testing.assert_allclose(plan(weights, feats, species), expected, atol=1e-11)


def test_irrep_out_of_reach_is_an_error():
    with pytest.raises(ValueError, match=r"no product of up to 3 factors of .*0e reaches 1o"):
        CG().product_basis(e3nn.Irreps("0e"), e3nn.Irreps("0e+1o"), 3)


def _check_derivatives(function: Callable[..., jax.Array], arguments: tuple) -> None:
    """First and second reverse derivatives, as training takes them, against central differences."""
    # In float64 a step of 1e-4 leaves an error of about 1e-8 from the next derivative and from rounding.
    check_grads(jax.jit(function), arguments, order=2, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-4)


@pytest.mark.parametrize("l_max", L_MAX)
def test_derivatives_of_the_interaction(make_edges, l_max):
    # Paths do not mix, so one irrep of the nodes shows them all.
    harmonics, irrep = e3nn.s2_irreps(l_max), e3nn.Irreps("1o" if l_max > 0 else "0e")
    plan = CG().interaction(irrep, harmonics, harmonics)
    edges = make_edges(plan.num_weights, irrep, harmonics, channels=1)

    def message(weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array) -> jax.Array:
        return plan(weights, node_feats, edge_attrs, edges.batch)

    _check_derivatives(message, (edges.weights, edges.node_feats, edges.edge_attrs))


@pytest.mark.parametrize("l_max, correlation", [(0, 4), (1, 1), (1, 4), (2, 4), (3, 2), (3, 3)])
def test_derivatives_of_the_product_basis(l_max, correlation):
    harmonics = e3nn.s2_irreps(l_max)
    plan = CG().product_basis(harmonics, _hidden(l_max), correlation)
    weights, feats, species = _random_nodes(plan, harmonics)
    _check_derivatives(lambda weights, feats: plan(weights, feats, species), (weights, feats))
