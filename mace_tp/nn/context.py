"""Common arguments of the layers of one model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mace_tp.kernels.linear import Mix


@dataclasses.dataclass(frozen=True)
class LayerContext:
    """Sizes, dtype, random numbers and the evaluation of linear maps, handed to the constructor of every layer. No layer keeps it."""

    channels: int  # of the features
    num_species: int  # elements
    dtype: jnp.dtype  # of the parameters
    rng: np.random.Generator  # source of the initial parameters
    mix: Mix  # evaluates linear maps over channels

    def normal(self, shape: tuple[int, ...], scale: np.ndarray | float = 1.0) -> nnx.Param:
        """Draw a parameter with standard deviation `scale` (broadcastable to `shape`). Its layer divides by the fan-in, as e3nn does.

        numpy draws the numbers, because jax would compile a program for each shape, which takes seconds where no cache has it. A seed
        gives the same numbers in every dtype.
        """
        return nnx.Param(jnp.asarray(np.asarray(scale * self.rng.standard_normal(shape), self.dtype)))


def numpy_generator(rng: np.random.Generator | nnx.Rngs) -> np.random.Generator:
    """Return numpy's generator itself, or one seeded with the next `params` key of flax's."""
    if isinstance(rng, nnx.Rngs):
        return np.random.default_rng(np.asarray(jax.random.key_data(rng.params())).ravel())
    return rng
