"""Multilayer perceptrons without bias, normalized as e3nn does it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from numpy.random import Generator

from mace_tp.nn.linear import normal

# 1 / sqrt(E[silu(z)²]) for normal z. The exact value is 1.67653; this is the Monte-Carlo estimate that e3nn's
# `normalize2mom` uses, so that models of ACEsuit's MACE can be read exactly.
SILU_NORMALIZATION = 1.6791767923989418


def normalized_silu(x: jax.Array) -> jax.Array:
    """silu scaled to a second moment of one for normal input."""
    return SILU_NORMALIZATION * jax.nn.silu(x)


class RadialMLP(nnx.Module):
    """Radial basis → weights of the interaction's paths. Zero in gives zero out, so padded edges send nothing."""

    def __init__(self, num_basis: int, hidden: Sequence[int], num_weights: int, channels: int, *, dtype: jnp.dtype, rng: Generator) -> None:
        sizes = [num_basis, *hidden]
        self.hidden = nnx.List([normal(rng, (fan_in, fan_out), dtype) for fan_in, fan_out in zip(sizes[:-1], sizes[1:])])
        self.output = normal(rng, (num_weights, sizes[-1], channels), dtype)

    def __call__(self, radial_embedding: jax.Array) -> jax.Array:
        """Embedding [pairs, num_basis] → weights [pairs, num_weights, channels].

        One matrix product for all paths, and one of each derivative: with one for each path a step on 2,048 atoms takes 1.15 times as long.
        """
        x = radial_embedding
        for weight in self.hidden:
            x = normalized_silu(x @ (weight[...] / jnp.sqrt(weight.shape[0]).astype(x.dtype)))
        num_weights, size, channels = self.output.shape
        columns = self.output[...].transpose(1, 0, 2).reshape(size, num_weights * channels) / jnp.sqrt(size).astype(x.dtype)
        return (x @ columns).reshape(-1, num_weights, channels)
