"""Arguments with which the laws evaluate plans: random arguments, elements of O(3), tolerances, and derivatives to compare."""

import functools
from collections.abc import Callable
from typing import Any

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.edge_blocks import fill_edge_blocks
from mace_tp.graph import batch_of_edges
from mace_tp.tensor_products.plans import InteractionPlan, ProductBasisPlan

NUM_NODES, CHANNELS = 4, 2
SPECIES = np.array([0, 1, 2, 1])
# Sums of some hundred terms of order one.
ROUNDING, ROUNDING_OF_TURNED = 1e-11, 1e-10
# In float64 a step of 1e-4 leaves an error of about 1e-8 from the next derivative and from rounding.
DIFFERENCES = {"order": 2, "modes": ["rev"], "atol": 1e-6, "rtol": 1e-6, "eps": 1e-4}


class Edges:
    """Arguments of an interaction: random edges among four nodes, one of which receives none and one more than a block.

    Every edge is a pair by itself. Weights are zero on padded edges.
    """

    def __init__(self, num_weights: int, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, channels: int = CHANNELS) -> None:
        rng = np.random.default_rng(0)
        receivers = np.repeat(np.arange(NUM_NODES), [3, 0, 11, 2]).astype(np.int32)
        senders = rng.integers(0, NUM_NODES, len(receivers)).astype(np.int32)
        senders, receivers, _, self.mask = fill_edge_blocks(senders, receivers, np.zeros((len(receivers), 3)), NUM_NODES)
        self.batch = batch_of_edges(senders, receivers, self.mask, NUM_NODES)
        num_edges = len(self.mask)
        columns = [rng.normal(size=(num_edges, channels)) * self.mask[:, None] for _ in range(num_weights)]
        self.weights = np.stack(columns, axis=1)  # [edges, num_weights, channels]
        self.node_feats = rng.normal(size=(irreps_node.dim, NUM_NODES, channels))
        self.edge_attrs = rng.normal(size=(num_edges, irreps_edge.dim))

    @classmethod
    def of(cls, plan: InteractionPlan, channels: int = CHANNELS) -> "Edges":
        return cls(plan.num_weights, plan.irreps_node, plan.irreps_edge, channels)


def nodes_of(plan: ProductBasisPlan) -> tuple[np.ndarray, np.ndarray]:
    """Weights [num_weights, elements, channels] and features [components, nodes, channels] of a product basis."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(plan.num_weights, 3, CHANNELS)), rng.normal(size=(plan.irreps_in.dim, len(SPECIES), CHANNELS))


def orthogonal_matrices() -> tuple[np.ndarray, np.ndarray]:
    """A rotation, and the same with inversion."""
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    rotation = rotation * np.linalg.det(rotation)
    return rotation, -rotation


def turned(features: np.ndarray, irreps: e3nn.Irreps, matrix: np.ndarray) -> np.ndarray:
    """Features [components, ...] after an element of O(3)."""
    return np.tensordot(np.array(irreps.D_from_matrix(matrix)), features, axes=1)


@functools.lru_cache(maxsize=16)
def jitted(plan: Any) -> Callable[..., jax.Array]:
    return jax.jit(plan.__call__)


def derivatives(function: Callable[..., jax.Array], arguments: tuple, weights: tuple = ()) -> list[np.ndarray]:
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
            return jnp.sum(jnp.stack([jnp.sum(gradient * direction) for gradient, direction in zip(gradients, directions)]))

        return [function(*weights, *arguments), *jax.grad(projected, positions)(*arguments), *jax.grad(slope, positions)(*arguments)]

    return jax.jit(everything)


def assert_equal(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for here, there in zip(actual, expected, strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=ROUNDING * max(np.abs(there).max(), 1e-3))
