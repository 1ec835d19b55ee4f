"""Readouts: scalar features of a layer → its share of the node energy."""

import jax
import jax.numpy as jnp
from flax import nnx
from numpy.random import Generator

from mace_tp.nn.linear import normal
from mace_tp.nn.mlp import normalized_silu


class LinearReadout(nnx.Module):
    """Linear in the scalars; every layer but the last."""

    def __init__(self, channels: int, *, dtype: jnp.dtype, rng: Generator) -> None:
        self.weight = normal(rng, (channels,), dtype)

    def __call__(self, scalars: jax.Array) -> jax.Array:
        """Scalars [nodes, channels] → [nodes]."""
        return scalars @ self.weight[...] / jnp.sqrt(scalars.shape[-1]).astype(scalars.dtype)


class MLPReadout(nnx.Module):
    """One hidden layer; the last layer of a model with several."""

    def __init__(self, channels: int, hidden: int, *, dtype: jnp.dtype, rng: Generator) -> None:
        self.hidden = normal(rng, (channels, hidden), dtype)
        self.output = normal(rng, (hidden,), dtype)

    def __call__(self, scalars: jax.Array) -> jax.Array:
        """Scalars [nodes, channels] → [nodes]."""
        hidden = self.hidden[...]
        x = normalized_silu(scalars @ (hidden / jnp.sqrt(hidden.shape[0]).astype(hidden.dtype)))
        return x @ self.output[...] / jnp.sqrt(x.shape[-1]).astype(x.dtype)
