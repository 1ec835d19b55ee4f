"""Interaction block: messages from neighbors, and the self-connection around them."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
from flax import nnx

from mace_tp.graph import GraphBatch
from mace_tp.nn.context import LayerContext
from mace_tp.nn.embedding import RadialEmbedding
from mace_tp.nn.linear import Linear, SpeciesLinear
from mace_tp.nn.mlp import RadialMLP
from mace_tp.nn.normalization import AverageNeighbors, Density
from mace_tp.tensor_products.plans import InteractionPlan


class Interaction(nnx.Module):
    """Linear → radially weighted tensor product with the harmonics, summed over neighbors → linear / normalization.

    Source: Batatia et al. 2022 (MACE), eqs. 8 and 9; ACEsuit's `RealAgnostic...InteractionBlock`.
    """

    def __init__(
        self, plan: InteractionPlan, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, radial_mlp: RadialMLP,
        normalization: AverageNeighbors | Density, context: LayerContext,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.linear_up = Linear(irreps_in, irreps_in, context)
        self.radial_mlp = radial_mlp
        self.linear = Linear(plan.irreps_out, irreps_out, context)
        self.normalization = normalization

    def __call__(self, node_feats: jax.Array, edge_attrs: jax.Array, radial: RadialEmbedding, batch: GraphBatch) -> jax.Array:
        """Messages [components, nodes, channels] at the receivers, from harmonics of edges and the radial embedding of pairs."""
        weights, features = self.radial_mlp(radial), self.linear_up(node_feats, batch.species)
        with jax.named_scope("interaction"):
            summed = self.plan(weights, features, edge_attrs, batch)
        return self.linear(summed, batch.species) / self.normalization(radial, batch)


class MessageSelfConnection(nnx.Module):
    """Element-dependent mixing of the message, without a residual: ACEsuit's `RealAgnosticInteractionBlock`."""

    def __init__(self, irreps_message: e3nn.Irreps, context: LayerContext) -> None:
        self.skip = SpeciesLinear(irreps_message, irreps_message, context)

    def __call__(self, message: jax.Array, node_feats: jax.Array, species: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A-basis, and a residual of zero."""
        return self.skip(message, species), jnp.zeros((), message.dtype)


class ResidualSelfConnection(nnx.Module):
    """Element-dependent mixing of the layer's input, added after the product: ACEsuit's `RealAgnosticResidualInteractionBlock`."""

    def __init__(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, context: LayerContext) -> None:
        self.skip = SpeciesLinear(irreps_in, irreps_out, context)

    def __call__(self, message: jax.Array, node_feats: jax.Array, species: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A-basis, and the residual that is added to the product basis (broadcastable to its shape)."""
        return message, self.skip(node_feats, species)
