"""Equivariant linear maps over channels, for features [components, nodes, channels]."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.random import Generator

from mace_tp.kernels.linear import ChannelMap, IrrepMap, Mix
from mace_tp.tensor_products.algebra.irreps import rows_of


def normal(rng: Generator, shape: tuple[int, ...], dtype: jnp.dtype, scale: np.ndarray | float = 1.0) -> nnx.Param:
    """Parameter with `scale`, broadcastable to `shape`, as its standard deviation; the fan-in is divided out where it is used, as in e3nn.

    Drawn by numpy: jax would compile a program for it, which takes seconds where it is not in the cache. The same numbers for every dtype.
    """
    return nnx.Param(jnp.asarray(np.asarray(scale * rng.standard_normal(shape), dtype)))  # jax would compile a program for each shape


class Linear(nnx.Module):
    """Mixes the copies and channels of each irrep, e3nn's `Linear` without bias.

    Args:
        irreps_in: irreps of the input; several copies of one irrep are mixed.
        irreps_out: irreps of the output, one copy each.
        channels: channels of input and output.
        mix: what evaluates it.
    """

    def __init__(
        self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, channels: int, mix: Mix, *, dtype: jnp.dtype, rng: Generator
    ) -> None:
        missing = [str(irrep.ir) for irrep in irreps_out if irrep.ir not in irreps_in]
        if missing:
            raise ValueError(f"no path reaches {', '.join(missing)} from {irreps_in}")
        irreps_in = irreps_in.simplify()
        self.mix = mix
        self.channel_map = _channel_map(irreps_in, irreps_out, channels)
        self.weights = nnx.Dict(
            {str(irrep.ir): normal(rng, (irreps_in.count(irrep.ir), channels, channels), dtype) for irrep in irreps_out}
        )
        self.irreps_out = irreps_out

    @jax.named_scope("linear")
    def __call__(self, features: jax.Array, species: jax.Array) -> jax.Array:
        """Features [components, nodes, channels] → [components, nodes, channels]; the elements [nodes] do not matter."""
        matrices = tuple(self.weights[str(irrep.ir)][...][None] for irrep in self.irreps_out)
        return self.mix(self.channel_map, features, matrices, species)


class SpeciesLinear(nnx.Module):
    """Mixes the channels of each irrep with a matrix of its own for every element.

    It is e3nn's `FullyConnectedTensorProduct` with one-hot elements; irreps of the output that the input lacks are zero.
    """

    def __init__(
        self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, channels: int, num_species: int, mix: Mix,
        *, dtype: jnp.dtype, rng: Generator,
    ) -> None:  # fmt: skip
        self.mix = mix
        self.channel_map = _channel_map(irreps_in, irreps_out, channels * num_species)
        self.shared = tuple(str(irrep.ir) for irrep in irreps_out if irrep.ir in irreps_in)
        self.weights = nnx.Dict({ir: normal(rng, (num_species, channels, channels), dtype) for ir in self.shared})

    @jax.named_scope("linear")
    def __call__(self, features: jax.Array, species: jax.Array) -> jax.Array:
        """Features [components, nodes, channels] and elements [nodes] → [components, nodes, channels]."""
        if not self.shared:
            return jnp.zeros((self.channel_map.rows_out, *features.shape[1:]), features.dtype)
        matrices = tuple(self.weights[ir][...][:, None] for ir in self.shared)
        return self.mix(self.channel_map, features, matrices, species)


def _channel_map(irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, fan_in: int) -> ChannelMap:
    """Every irrep of the output from its copies in the input; `fan_in` channels and elements for each of them."""
    rows = rows_of(irreps_in)
    maps = [
        IrrepMap(rows[out.ir].start, irreps_in.count(out.ir), out.ir.dim, place.start, (irreps_in.count(out.ir) * fan_in) ** -0.5)
        for out, place in zip(irreps_out, irreps_out.slices(), strict=True)
        if out.ir in rows
    ]
    return ChannelMap(tuple(maps), irreps_in.dim, irreps_out.dim)
