"""Readouts: vector features of a layer → its share of the forces. They have no bias, so vectors turn with the structure."""

import jax
import jax.numpy as jnp
from flax import nnx
from numpy.random import Generator

from mace_tp.nn.linear import normal
from mace_tp.nn.mlp import normalized_silu


class LinearVectorReadout(nnx.Module):
    """Linear in the vectors; every layer but the last."""

    def __init__(self, channels: int, *, dtype: jnp.dtype, rng: Generator) -> None:
        self.weight = normal(rng, (channels,), dtype)

    def __call__(self, vectors: jax.Array) -> jax.Array:
        """Vectors [3, nodes, channels] → [nodes, 3]."""
        return (vectors @ self.weight[...] / jnp.sqrt(vectors.shape[-1]).astype(vectors.dtype)).T


class GatedVectorReadout(nnx.Module):
    """Mixed vectors, each times a function of the scalars; the last layer."""

    def __init__(self, channels: int, hidden: int, *, dtype: jnp.dtype, rng: Generator) -> None:
        self.gate = normal(rng, (channels, hidden), dtype)
        self.mix = normal(rng, (channels, hidden), dtype)

    def __call__(self, scalars: jax.Array, vectors: jax.Array) -> jax.Array:
        """Scalars [nodes, channels] and vectors [3, nodes, channels] → [nodes, 3]."""
        channels, hidden = self.gate.shape
        gates = normalized_silu(scalars @ (self.gate[...] / jnp.sqrt(channels).astype(scalars.dtype)))
        mixed = vectors @ (self.mix[...] / jnp.sqrt(channels * hidden).astype(vectors.dtype))
        return jnp.einsum("nh,mnh->nm", gates, mixed)
