"""Laws of the interaction."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from mace_tp.kernels.evaluate import Problem, evaluate_plainly
from mace_tp.tensor_products.algebra.analysis import interaction_dof, interaction_paths
from mace_tp.tensor_products.algebra.paths import paths_between
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.plans import InteractionPlan
from mace_tp.tensor_products.testing.arguments import (
    DIFFERENCES,
    NUM_NODES,
    ROUNDING,
    ROUNDING_OF_TURNED,
    Edges,
    assert_equal,
    derivatives,
    jitted,
    orthogonal_matrices,
    turned,
)


def interaction_has_the_shape_that_it_states(plan: InteractionPlan) -> None:
    edges = Edges.of(plan)
    assert _interact(plan, edges).shape == (plan.irreps_out.dim, *edges.node_feats.shape[1:])


def interaction_commutes_with_o3(plan: InteractionPlan) -> None:
    edges = Edges.of(plan)
    for matrix in orthogonal_matrices():
        after = turned(np.array(_interact(plan, edges)), plan.irreps_out, matrix)
        feats, attributes = turned(edges.node_feats, plan.irreps_node, matrix), turned(edges.edge_attrs.T, plan.irreps_edge, matrix).T
        before = _interact(plan, edges, node_feats=feats, edge_attrs=attributes)
        assert np.abs(after).max(axis=(1, 2)).min() > 1e-2, "an output that is zero is equivariant too"
        np.testing.assert_allclose(before, after, atol=ROUNDING_OF_TURNED)


def edges_of_zero_weight_send_nothing(plan: InteractionPlan) -> None:
    edges, rng = Edges.of(plan), np.random.default_rng(7)
    here, is_padded = _interact(plan, edges), ~edges.mask[:, None]
    there = _interact(plan, edges, edge_attrs=np.where(is_padded, rng.normal(size=edges.edge_attrs.shape), edges.edge_attrs))
    assert is_padded.any()
    np.testing.assert_array_equal(here, there)


def node_without_edges_receives_nothing(plan: InteractionPlan) -> None:
    message = np.abs(_interact(plan, Edges.of(plan))).max(axis=(0, 2))
    assert message[1] == 0 and message[[0, 2, 3]].min() > 1e-2


def interaction_treats_each_channel_by_itself(plan: InteractionPlan) -> None:
    edges = Edges.of(plan)
    feats = edges.node_feats.copy()
    feats[..., 1] = 0
    message = _interact(plan, edges, node_feats=feats)
    np.testing.assert_array_equal(message[..., 1], 0)
    np.testing.assert_allclose(message[..., 0], _interact(plan, edges)[..., 0], atol=1e-12)


def interaction_uses_every_weight(plan: InteractionPlan) -> None:
    edges = Edges.of(plan)
    here = _interact(plan, edges)
    for i in range(plan.num_weights):
        weights = edges.weights * (np.arange(plan.num_weights) != i)[:, None]
        assert np.abs(_interact(plan, edges, weights=weights) - here).max() > 1e-2, f"weight {i} changes nothing"


def interaction_keeps_the_dtype(plan: InteractionPlan) -> None:
    edges = Edges.of(plan)
    for dtype in (np.float32, np.float64):
        arguments = [jnp.asarray(array, dtype) for array in (edges.weights, edges.node_feats, edges.edge_attrs)]
        assert jitted(plan)(*arguments, edges.batch).dtype == dtype


def interaction_has_the_derivatives_of_its_values(plan: InteractionPlan) -> None:
    """First and second reverse derivatives, as training takes them, against central differences."""
    edges = Edges.of(plan)

    def message(weights: jax.Array, node_feats: jax.Array) -> jax.Array:
        return plan(weights, node_feats, jnp.asarray(edges.edge_attrs), edges.batch)

    check_grads(jax.jit(message), (edges.weights, edges.node_feats), **DIFFERENCES)


def interaction_is_cg_with_its_coordinates(plan: InteractionPlan) -> None:
    """Value, gradient, and gradient of the gradient."""
    edges = Edges.of(plan, channels=1)

    def function(node_feats: jax.Array, edge_attrs: jax.Array) -> jax.Array:
        return plan(jnp.asarray(edges.weights), node_feats, edge_attrs, edges.batch)

    arguments = (edges.node_feats, edges.edge_attrs)
    assert_equal(derivatives(function, arguments), derivatives(_interaction_as_cg(plan, edges), arguments))


def interaction_states_what_it_has(plan: InteractionPlan) -> None:
    paths = paths_between(plan.irreps_node, plan.irreps_edge, plan.irreps_out)
    assert plan.coefficients(np.ones((plan.num_weights, 5))).shape == (plan.irreps_out.num_irreps, len(paths), 5)
    assert {path.out for path in interaction_paths(plan)} == {irrep.ir for irrep in plan.irreps_out}
    assert 0 < interaction_dof(plan) <= len(interaction_paths(plan))


def interaction_is_its_polynomial(plan: InteractionPlan) -> None:
    """If it has one, the function that the compiled kernel evaluates."""
    edges, polynomial = Edges.of(plan), plan.polynomial()
    if polynomial is None:
        return
    indices = tuple(map(jnp.asarray, (edges.batch.edge_pair, edges.batch.senders, edges.batch.receivers)))
    operands = tuple(map(jnp.asarray, (edges.weights, edges.node_feats, edges.edge_attrs)))
    [value] = evaluate_plainly(Problem(polynomial, (NUM_NODES,)), operands, indices, jnp.asarray(edges.mask))
    np.testing.assert_allclose(value, _interact(plan, edges), atol=ROUNDING)


INTERACTION_LAWS: tuple[Callable[[InteractionPlan], None], ...] = (
    interaction_has_the_shape_that_it_states,
    interaction_commutes_with_o3,
    edges_of_zero_weight_send_nothing,
    node_without_edges_receives_nothing,
    interaction_treats_each_channel_by_itself,
    interaction_uses_every_weight,
    interaction_keeps_the_dtype,
    interaction_has_the_derivatives_of_its_values,
    interaction_is_cg_with_its_coordinates,
    interaction_states_what_it_has,
    interaction_is_its_polynomial,
)


def _interact(plan: InteractionPlan, edges: Edges, **changes: np.ndarray) -> jax.Array:
    arguments = {"weights": edges.weights, "node_feats": edges.node_feats, "edge_attrs": edges.edge_attrs} | changes
    return jitted(plan)(*arguments.values(), edges.batch)


def _interaction_as_cg(plan: InteractionPlan, edges: Edges) -> Callable[..., jax.Array]:
    """The plan's function, as `cg` with the plan's coordinates: each copy of an output is the sum of the paths that it has."""
    reference = CG().interaction(plan.irreps_node, plan.irreps_edge, plan.irreps_out)
    coordinates = plan.coefficients(np.moveaxis(edges.weights, 1, 0))
    starts = np.cumsum([0] + [path.out.dim for path in interaction_paths(reference)])
    copies = [irrep.ir for irrep in plan.irreps_out for _ in range(irrep.mul)]
    has_path = np.any(coordinates, axis=(2, 3))
    groups: list[list[int]] = []  # of copies that share no path, so that one evaluation of `cg` gives them all
    for copy in range(len(copies)):
        group = next((group for group in groups if not (has_path[group].any(axis=0) & has_path[copy]).any()), None)
        groups.append([copy]) if group is None else group.append(copy)

    def function(node_feats: jax.Array, edge_attrs: jax.Array) -> jax.Array:
        outputs = {}
        for group in groups:
            weights = np.moveaxis(coordinates[group].sum(axis=0), 0, 1)
            message = reference(weights, node_feats, edge_attrs, edges.batch)
            for copy in group:
                outputs[copy] = sum(message[starts[i] : starts[i + 1]] for i in np.flatnonzero(has_path[copy]))
        return jnp.concatenate([outputs[copy] for copy in range(len(copies))])

    return function
