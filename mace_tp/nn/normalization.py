"""Divisors of the messages, which keep their size independent of the number of neighbors."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from mace_tp.graph import GraphBatch, gather, segment_sum
from mace_tp.nn.context import LayerContext
from mace_tp.nn.embedding import RadialEmbedding


@dataclasses.dataclass(frozen=True)
class AverageNeighbors:
    """The mean number of neighbors in the training data, the same for every atom."""

    number: float

    def __call__(self, radial: RadialEmbedding, batch: GraphBatch) -> float:
        return self.number


class Density(nnx.Module):
    """One plus a learned number of close neighbors: ACEsuit's `RealAgnosticDensity...InteractionBlock`."""

    def __init__(self, num_basis: int, context: LayerContext) -> None:
        self.weight = context.normal((num_basis,))

    def __call__(self, radial: RadialEmbedding, batch: GraphBatch) -> jax.Array:
        """Embedding of pairs, zero in padding → divisor [nodes, 1] at the receivers."""
        near = radial.values @ self.weight[...] / jnp.sqrt(radial.values.shape[-1]).astype(radial.values.dtype)
        density = gather(jnp.tanh(near**2), batch.edge_pair)
        return 1 + segment_sum(density, batch.receivers, batch.num_nodes, indices_are_sorted=True)[:, None]
