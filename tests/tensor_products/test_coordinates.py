"""Every plan computes what it says: it equals `cg` run with the Clebsch-Gordan coordinates that it reports."""

import functools
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensor_product_cases import CASES, build

from mace_tp.tensor_products.base import InteractionPlan, TensorProduct, UnreachableIrrep
from mace_tp.tensor_products.cg import CG

# Rounding of sums over some hundred terms of order one.
TOLERANCE = 1e-11
# `cg` is what the others are compared with.
OTHERS = [case for case in CASES if case.id != "cg"]
SPECIES = np.array([0, 1, 1])


@pytest.fixture(params=OTHERS)
def products(request):
    return build(request.param)


def _derivatives(function: Callable[..., jax.Array], arguments: tuple, weights: tuple = ()) -> list[np.ndarray]:
    """Value, gradient, and the gradient of a projection of the gradient, of a random projection of a function of (*weights, *arguments)."""
    rng = np.random.default_rng(5)
    probe = rng.normal(size=jax.eval_shape(function, *weights, *arguments).shape)
    directions = tuple(rng.normal(size=argument.shape) for argument in arguments)
    return [np.asarray(value) for value in _compiled(function, len(arguments))(probe, directions, weights, arguments)]


@functools.cache
def _compiled(function: Callable[..., jax.Array], num_arguments: int) -> Callable[..., list[jax.Array]]:
    """Compiled once for a function, however often it is asked for."""
    positions = tuple(range(num_arguments))

    def everything(probe: jax.Array, directions: tuple, weights: tuple, arguments: tuple) -> list[jax.Array]:
        def projected(*arguments: jax.Array) -> jax.Array:
            return jnp.sum(probe * function(*weights, *arguments))

        def slope(*arguments: jax.Array) -> jax.Array:
            gradients = jax.grad(projected, positions)(*arguments)
            return sum(jnp.sum(gradient * direction) for gradient, direction in zip(gradients, directions))

        return [function(*weights, *arguments), *jax.grad(projected, positions)(*arguments), *jax.grad(slope, positions)(*arguments)]

    return jax.jit(everything)


@functools.cache
def _cg_product_basis(irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> Callable[..., jax.Array]:
    """(coordinates, features) → product basis of `cg`; the same function for every product that is compared with it."""
    plan = CG().product_basis(irreps_in, irreps_out, correlation)
    return lambda coordinates, feats: plan(coordinates, feats, SPECIES)


def _assert_equal(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for here, there in zip(actual, expected, strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=TOLERANCE * max(np.abs(there).max(), 1e-3))


def _as_cg(plan: InteractionPlan, weights: np.ndarray, edges) -> Callable[..., jax.Array]:
    """The plan's function, as `cg` with the plan's coordinates: each copy of an output is the sum of the paths that it has."""
    reference = CG().interaction(plan.irreps_node, plan.irreps_edge, plan.irreps_keep)
    coordinates, paths = plan.coefficients(weights), plan.paths()
    positions = [reference.paths().index(path) for path in paths]
    starts = np.cumsum([0] + [path.out.dim for path in reference.paths()])
    copies = [irrep.ir for irrep in plan.irreps_out for _ in range(irrep.mul)]
    has_path = coordinates.any(axis=(2, 3))
    groups: list[list[int]] = []  # of copies that share no path, so that one evaluation of `cg` gives them all
    for copy in range(len(copies)):
        group = next((group for group in groups if not (has_path[group].any(axis=0) & has_path[copy]).any()), None)
        groups.append([copy]) if group is None else group.append(copy)

    def function(node_feats: jax.Array, edge_attrs: jax.Array) -> jax.Array:
        outputs = {}
        for group in groups:
            full = np.zeros((reference.num_weights, *weights.shape[1:]))
            full[positions] = coordinates[group].sum(axis=0)
            message = reference(list(full), node_feats, edge_attrs, edges.senders, edges.receivers)
            for copy in group:
                own = [position for position, path_is_here in zip(positions, has_path[copy]) if path_is_here]
                outputs[copy] = sum(message[starts[position] : starts[position + 1]] for position in own)
        return jnp.concatenate([outputs[copy] for copy in range(len(copies))])

    return function


def _richest_plan(product: TensorProduct, harmonics: e3nn.Irreps) -> InteractionPlan:
    """With pseudo-tensors among the node features, where the product can use them."""
    try:
        return product.interaction(e3nn.Irreps("0e+1o+1e+2e"), harmonics, harmonics)
    except UnreachableIrrep as error:
        assert "1e" in str(error)
        return product.interaction(e3nn.Irreps("0e+1o+2e"), harmonics, harmonics)


@pytest.mark.parametrize("l_max", [1, 2, *(pytest.param(l_max, marks=pytest.mark.slow) for l_max in (3, 4))])
def test_interaction_is_cg_with_its_coordinates(products, make_edges, l_max):
    plan = _richest_plan(products.interaction, e3nn.s2_irreps(l_max))
    edges = make_edges(plan.num_weights, plan.irreps_node, plan.irreps_edge, channels=1)
    weights = np.stack(edges.weights)

    def function(node_feats: jax.Array, edge_attrs: jax.Array) -> jax.Array:
        return plan(list(weights), node_feats, edge_attrs, edges.senders, edges.receivers)

    arguments = (edges.node_feats, edges.edge_attrs)
    _assert_equal(_derivatives(function, arguments), _derivatives(_as_cg(plan, weights, edges), arguments))


ORDERS = [
    pytest.param(l_max, correlation, marks=[pytest.mark.slow] if l_max * correlation > 6 else [])
    for l_max in (1, 2, 3)
    for correlation in (1, 2, 3, 4)
]


@pytest.mark.parametrize("l_max, correlation", ORDERS)
def test_product_basis_is_cg_with_its_coordinates(products, l_max, correlation):
    harmonics = e3nn.s2_irreps(l_max)
    hidden = e3nn.Irreps("0e+1o" if (l_max, correlation) in [(1, 1), (3, 4)] else "0e+1o+2e")
    plan = products.product_basis.product_basis(harmonics, hidden, correlation)
    rng = np.random.default_rng(0)
    weights, feats = rng.normal(size=(plan.num_weights, 2, 1)), rng.normal(size=(harmonics.dim, 3, 1))
    coordinates = plan.coefficients(weights)

    assert coordinates.shape == (CG().product_basis(harmonics, hidden, correlation).num_weights, 2, 1)
    _assert_equal(
        _derivatives(lambda feats: plan(weights, feats, SPECIES), (feats,)),
        _derivatives(_cg_product_basis(harmonics, hidden, correlation), (feats,), (coordinates,)),
    )


@pytest.mark.parametrize("case", [case for case in CASES if "rank" not in case.id])
def test_every_weight_belongs_to_a_vector_of_size_one(case):
    """As `cg`'s do, so that all products start and train at the same scale. With a rank above one the weights multiply each other."""
    plan = build(case).product_basis.product_basis(e3nn.s2_irreps(3), e3nn.Irreps("0e+1o"), 3)
    vectors = plan.coefficients(np.eye(plan.num_weights))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("hidden", ["0e+1o+1e", "0e+2o"])
def test_pseudo_tensors_are_cg_with_their_coordinates(products, hidden):
    harmonics, hidden = e3nn.s2_irreps(2), e3nn.Irreps(hidden)
    try:
        plan = products.product_basis.product_basis(harmonics, hidden, 3)
    except UnreachableIrrep as error:
        assert f"reaches {hidden[-1].ir}" in str(error)
        return
    reference = CG().product_basis(harmonics, hidden, 3)
    rng = np.random.default_rng(0)
    weights, feats = rng.normal(size=(plan.num_weights, 2, 1)), rng.normal(size=(harmonics.dim, 3, 1))

    values = plan(weights, feats, SPECIES)

    assert np.abs(values[-hidden[-1].ir.dim :]).max() > 1e-2
    np.testing.assert_allclose(values, reference(plan.coefficients(weights), feats, SPECIES), atol=TOLERANCE * np.abs(values).max())


def test_pseudo_tensors_are_within_reach_of_some_products():
    able = []
    for case in CASES:
        try:
            build(case.values[0]).product_basis.product_basis(e3nn.s2_irreps(2), e3nn.Irreps("0e+1o+1e"), 3)
            able.append(case.id)
        except UnreachableIrrep:
            continue
    assert {"cg", "vector_grid"} <= set(able) and not {"gaunt", "spherical_grid", "matrix"} & set(able)
