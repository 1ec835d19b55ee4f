"""Readouts: scalar features of a layer → its share of the node energy."""

import jax
import jax.numpy as jnp
from flax import nnx

from mace_tp.nn.context import LayerContext
from mace_tp.nn.mlp import normalized_silu


class LinearReadout(nnx.Module):
    """Linear in the scalars; for every layer but the last."""

    def __init__(self, context: LayerContext) -> None:
        self.weight = context.normal((context.channels,))

    def __call__(self, scalars: jax.Array) -> jax.Array:
        """Scalars [nodes, channels] → [nodes]."""
        return scalars @ self.weight[...] / jnp.sqrt(scalars.shape[-1]).astype(scalars.dtype)


class MLPReadout(nnx.Module):
    """One hidden layer; for the last layer of a model with several layers."""

    def __init__(self, hidden: int, context: LayerContext) -> None:
        self.hidden = context.normal((context.channels, hidden))
        self.output = context.normal((hidden,))

    def __call__(self, scalars: jax.Array) -> jax.Array:
        """Scalars [nodes, channels] → [nodes]."""
        hidden = self.hidden[...]
        x = normalized_silu(scalars @ (hidden / jnp.sqrt(hidden.shape[0]).astype(hidden.dtype)))
        return x @ self.output[...] / jnp.sqrt(x.shape[-1]).astype(x.dtype)
