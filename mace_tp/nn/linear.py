"""Equivariant linear maps over channels, for features [components, nodes, channels]."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
from flax import nnx

from mace_tp.kernels.linear import ChannelMap, IrrepMap
from mace_tp.nn.context import LayerContext
from mace_tp.tensor_products.algebra.irreps import rows_of


class Linear(nnx.Module):
    """Mixes the copies and channels of each irrep: e3nn's `Linear` without bias.

    Args:
        irreps_in: irreps of the input; several copies of one irrep are mixed.
        irreps_out: irreps of the output, one copy each.
        context: of the model.

    Raises:
        ValueError: the input lacks an irrep of the output.
    """

    def __init__(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, context: LayerContext) -> None:
        missing = [str(irrep.ir) for irrep in irreps_out if irrep.ir not in irreps_in]
        if missing:
            raise ValueError(f"no path reaches {', '.join(missing)} from {irreps_in}")
        irreps_in, channels = irreps_in.simplify(), context.channels
        self.mix = context.mix
        self.channel_map = _channel_map(irreps_in, irreps_out, channels)
        self.weights = nnx.Dict({str(irrep.ir): context.normal((irreps_in.count(irrep.ir), channels, channels)) for irrep in irreps_out})
        self.irreps_out = irreps_out

    @jax.named_scope("linear")
    def __call__(self, features: jax.Array, species: jax.Array) -> jax.Array:
        """Features [components, nodes, channels] → [components, nodes, channels]; the elements [nodes] do not matter."""
        matrices = tuple(self.weights[str(irrep.ir)][...][None] for irrep in self.irreps_out)
        return self.mix(self.channel_map, features, matrices, species)


class SpeciesLinear(nnx.Module):
    """Mixes the channels of each irrep with one matrix for each element.

    This is e3nn's `FullyConnectedTensorProduct` with one-hot elements. Irreps of the output that the input lacks are zero.
    """

    def __init__(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, context: LayerContext) -> None:
        channels, num_species = context.channels, context.num_species
        self.mix = context.mix
        self.channel_map = _channel_map(irreps_in, irreps_out, channels * num_species)
        self.shared = tuple(str(irrep.ir) for irrep in irreps_out if irrep.ir in irreps_in)
        self.weights = nnx.Dict({ir: context.normal((num_species, channels, channels)) for ir in self.shared})

    @jax.named_scope("linear")
    def __call__(self, features: jax.Array, species: jax.Array) -> jax.Array:
        """Features [components, nodes, channels] and elements [nodes] → [components, nodes, channels]."""
        if not self.shared:
            return jnp.zeros((self.channel_map.rows_out, *features.shape[1:]), features.dtype)
        matrices = tuple(self.weights[ir][...][:, None] for ir in self.shared)
        return self.mix(self.channel_map, features, matrices, species)


def _channel_map(irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, fan_in: int) -> ChannelMap:
    """Map every irrep of the output from its copies in the input; each copy has `fan_in` channels and elements."""
    rows = rows_of(irreps_in)
    maps = [
        IrrepMap(rows[out.ir].start, irreps_in.count(out.ir), out.ir.dim, place.start, (irreps_in.count(out.ir) * fan_in) ** -0.5)
        for out, place in zip(irreps_out, irreps_out.slices(), strict=True)
        if out.ir in rows
    ]
    return ChannelMap(tuple(maps), irreps_in.dim, irreps_out.dim)
