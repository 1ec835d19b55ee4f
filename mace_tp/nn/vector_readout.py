"""Readouts: vector features of a layer → its share of the forces. They have no bias, so the forces rotate with the structure."""

import jax
import jax.numpy as jnp
from flax import nnx

from mace_tp.nn.context import LayerContext
from mace_tp.nn.mlp import normalized_silu


class LinearVectorReadout(nnx.Module):
    """Linear in the vectors; for every layer but the last."""

    def __init__(self, context: LayerContext) -> None:
        self.weight = context.normal((context.channels,))

    def __call__(self, vectors: jax.Array) -> jax.Array:
        """Vectors [3, nodes, channels] → [nodes, 3]."""
        return (vectors @ self.weight[...] / jnp.sqrt(vectors.shape[-1]).astype(vectors.dtype)).T


class GatedVectorReadout(nnx.Module):
    """Mixed vectors, each times a function of the scalars; for the last layer."""

    def __init__(self, hidden: int, context: LayerContext) -> None:
        self.gate = context.normal((context.channels, hidden))
        self.mix = context.normal((context.channels, hidden))

    def __call__(self, scalars: jax.Array, vectors: jax.Array) -> jax.Array:
        """Scalars [nodes, channels] and vectors [3, nodes, channels] → [nodes, 3]."""
        channels, hidden = self.gate.shape
        gates = normalized_silu(scalars @ (self.gate[...] / jnp.sqrt(channels).astype(scalars.dtype)))
        mixed = vectors @ (self.mix[...] / jnp.sqrt(channels * hidden).astype(vectors.dtype))
        return jnp.einsum("nh,mnh->nm", gates, mixed)
