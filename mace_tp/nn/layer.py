"""One layer of the model, and the features that it makes."""

import jax
from flax import nnx, struct

from mace_tp.graph import GraphBatch
from mace_tp.nn.embedding import RadialEmbedding
from mace_tp.nn.interaction import Interaction, MessageSelfConnection, ResidualSelfConnection
from mace_tp.nn.product_basis import ProductBasis


@struct.dataclass
class LayerFeatures:
    """Features of the nodes before, inside and after a layer, each [components, nodes, channels]."""

    node_feats_in: jax.Array  # input, from the layer before
    a_basis: jax.Array  # sums over neighbors; the product basis consists of their powers
    node_feats: jax.Array  # output, for the readout and the next layer


class Layer(nnx.Module):
    """One interaction, and the product basis over its messages."""

    def __init__(
        self, interaction: Interaction, self_connection: MessageSelfConnection | ResidualSelfConnection, product_basis: ProductBasis
    ) -> None:
        self.interaction = interaction
        self.self_connection = self_connection
        self.product_basis = product_basis

    def __call__(self, node_feats: jax.Array, edge_attrs: jax.Array, radial: RadialEmbedding, batch: GraphBatch) -> LayerFeatures:
        message = self.interaction(node_feats, edge_attrs, radial, batch)
        a_basis, residual = self.self_connection(message, node_feats, batch.species)
        return LayerFeatures(node_feats, a_basis, self.product_basis(a_basis, batch.species, residual))
