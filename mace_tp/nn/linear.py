"""Equivariant linear maps over channels, for features [components, nodes, channels]."""

from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.random import Generator

from mace_tp.tensor_products.irreps import split_irreps


def normal(rng: Generator, shape: tuple[int, ...], dtype: jnp.dtype, scale: np.ndarray | float = 1.0) -> nnx.Param:
    """Parameter with `scale`, broadcastable to `shape`, as its standard deviation; the fan-in is divided out where it is used, as in e3nn.

    Drawn by numpy: jax would compile a program for it, which takes seconds where it is not in the cache. The same numbers for every dtype.
    """
    return nnx.Param(jnp.asarray(scale * rng.standard_normal(shape), dtype))


class Linear(nnx.Module):
    """Mixes the copies and channels of each irrep, e3nn's `Linear` without bias.

    Args:
        irreps_in: irreps of the input; several copies of one irrep are mixed.
        irreps_out: irreps of the output, one copy each.
        channels: channels of input and output.
    """

    def __init__(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, channels: int, *, dtype: jnp.dtype, rng: Generator) -> None:
        missing = [str(irrep.ir) for irrep in irreps_out if irrep.ir not in irreps_in]
        if missing:
            raise ValueError(f"no path reaches {', '.join(missing)} from {irreps_in}")
        self.irreps_in = irreps_in.simplify()
        self.irreps_out = irreps_out
        self.weights = nnx.Dict(
            {str(irrep.ir): normal(rng, (self.irreps_in.count(irrep.ir), channels, channels), dtype) for irrep in irreps_out}
        )

    def __call__(self, features: jax.Array) -> jax.Array:
        outputs, blocks = [], split_irreps(features, self.irreps_in)
        for out in self.irreps_out:
            copies = self.irreps_in.count(out.ir)
            block = blocks[out.ir].reshape(copies, out.ir.dim, *features.shape[1:])
            weight = self.weights[str(out.ir)][...]
            weight = weight / jnp.sqrt(copies * weight.shape[1]).astype(weight.dtype)
            outputs.append(jnp.einsum("pmnc,pcd->mnd", block, weight))
        return jnp.concatenate(outputs)


Mix = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(features [components, nodes, in], matrices [elements, in, out], species [nodes]) → [components, nodes, out]."""


class SpeciesLinear(nnx.Module):
    """Mixes the channels of each irrep with a matrix of its own for every element.

    It is e3nn's `FullyConnectedTensorProduct` with one-hot elements; irreps of the output that the input lacks are zero.
    """

    def __init__(
        self,
        irreps_in: e3nn.Irreps,
        irreps_out: e3nn.Irreps,
        channels: int,
        num_species: int,
        mix: Mix,
        *,
        dtype: jnp.dtype,
        rng: Generator,
    ) -> None:
        self.irreps_in = irreps_in
        self.irreps_out = irreps_out
        self.mix = mix
        shared = [irrep.ir for irrep in irreps_out if irrep.ir in irreps_in]
        self.weights = nnx.Dict({str(ir): normal(rng, (num_species, channels, channels), dtype) for ir in shared})

    def __call__(self, features: jax.Array, species: jax.Array) -> jax.Array:
        """Features [components, nodes, channels] and elements [nodes] → [components, nodes, channels]."""
        outputs, blocks = [], split_irreps(features, self.irreps_in)
        for out in self.irreps_out:
            if str(out.ir) in self.weights:
                weight = self.weights[str(out.ir)][...]
                outputs.append(self.mix(blocks[out.ir], weight / jnp.sqrt(weight.shape[0] * weight.shape[1]).astype(weight.dtype), species))
            else:
                outputs.append(jnp.zeros((out.ir.dim, *features.shape[1:]), features.dtype))
        return jnp.concatenate(outputs)
