"""MACE: element embedding → (interaction → product basis → readout) × layers → node energies; and a strategy for the forces."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.graph import GraphBatch
from mace_tp.model.architecture import Architecture
from mace_tp.model.forces import VECTOR, DirectForces, GradientForces, NodeOutputs
from mace_tp.model.prediction import Prediction
from mace_tp.nn.context import LayerContext, numpy_generator
from mace_tp.nn.embedding import ElementEmbedding, edge_harmonics, find_pairs, radial_embedding
from mace_tp.nn.interaction import Interaction, MessageSelfConnection, ResidualSelfConnection
from mace_tp.nn.layer import Layer
from mace_tp.nn.mlp import RadialMLP
from mace_tp.nn.normalization import AverageNeighbors, Density
from mace_tp.nn.pair_repulsion import NoRepulsion, ZBLRepulsion
from mace_tp.nn.product_basis import ProductBasis
from mace_tp.nn.readout import LinearReadout, MLPReadout
from mace_tp.tensor_products.registry import TensorProducts

_REPULSIONS = {"none": NoRepulsion, "zbl": ZBLRepulsion}  # values of `model.pair_repulsion`


class MACE(nnx.Module):
    """Interaction energy of every node; the function of ACEsuit's `ScaleShiftMACE`.

    Source: Batatia et al. 2022 (MACE). The symmetric contraction uses the reduced basis (`symmetric_basis.py`).

    Args:
        architecture: shape of the model.
        tensor_products: of both sites.
        statistics: of the training data.
        dtype: of the parameters.
        rng: source of the initial parameters, numpy's generator or flax's `nnx.Rngs`.
    """

    def __init__(
        self,
        architecture: Architecture,
        tensor_products: TensorProducts,
        statistics: DatasetStatistics,
        *,
        dtype: jnp.dtype,
        rng: np.random.Generator | nnx.Rngs,
    ) -> None:
        num_species = len(statistics.atomic_numbers)
        context = LayerContext(architecture.num_channels, num_species, dtype, numpy_generator(rng), tensor_products.mix)
        self.architecture = architecture
        self.statistics = statistics
        self.embedding = ElementEmbedding(context)
        self.layers = nnx.List([])
        self.readouts = nnx.List([])
        for index in range(architecture.num_interactions):
            self.layers.append(_layer(index, architecture, tensor_products, statistics, context))
            is_last_of_several = 0 < index == architecture.num_interactions - 1
            self.readouts.append(MLPReadout(architecture.readout_mlp, context) if is_last_of_several else LinearReadout(context))
        self.repulsion = _REPULSIONS[architecture.pair_repulsion](statistics.atomic_numbers, architecture.cutoff_power)
        # Drawn last, so that a seed gives the same energy with gradient and with direct forces.
        self.forces = _forces(architecture, tensor_products, statistics, context)

    def __call__(self, edge_vectors: jax.Array, batch: GraphBatch) -> jax.Array:
        """Interaction energy of each node [nodes], eV, without E0. Arguments as for `outputs`."""
        return self.outputs(edge_vectors, batch).energy

    def predict(self, batch: GraphBatch) -> Prediction:
        """Energy, forces and stress of a batch, by the strategy that `architecture.forces` names."""
        return self.forces(self.outputs, batch, self.architecture.cutoff)

    def outputs(self, edge_vectors: jax.Array, batch: GraphBatch) -> NodeOutputs:
        """Interaction energy of each node, and the features of every layer. Scalars must come first in the hidden irreps.

        Args:
            edge_vectors: receiver - sender [edges, 3], Å. The two edges of a pair must have opposite vectors, because functions of the
                length read only the first of them. The gradient by one edge vector alone therefore has no meaning, only that by both.
            batch: supplies elements and connectivity; its own edge vectors are not used.
        """
        architecture, statistics = self.architecture, self.statistics
        pairs = find_pairs(edge_vectors, batch, architecture.cutoff, statistics.atomic_numbers)
        radial = radial_embedding(
            pairs, architecture.cutoff, architecture.num_bessel, architecture.cutoff_power, architecture.distance_transform
        )
        edge_attrs = edge_harmonics(edge_vectors, architecture.l_max)
        node_feats = self.embedding(batch.species)
        energy = self.repulsion(pairs, batch)
        features = []
        for layer, readout in zip(self.layers, self.readouts):
            features.append(layer(node_feats, edge_attrs, radial, batch))
            node_feats = features[-1].node_feats
            energy += readout(node_feats[0])
        return NodeOutputs(energy=statistics.scale * energy + statistics.shift, layers=tuple(features))


def _layer(index: int, architecture: Architecture, products: TensorProducts, statistics: DatasetStatistics, context: LayerContext) -> Layer:
    irreps_in, irreps_out, harmonics = architecture.irreps_in(index), architecture.irreps_out(index), architecture.harmonics
    plan = products.interaction.interaction(irreps_in, harmonics, harmonics)
    radial_mlp = RadialMLP(architecture.num_bessel, architecture.radial_mlp, plan.num_weights, context)
    if architecture.message_normalization == "density":
        normalization = Density(architecture.num_bessel, context)
    else:
        normalization = AverageNeighbors(statistics.avg_num_neighbors)
    interaction = Interaction(plan, irreps_in, harmonics, radial_mlp, normalization, context)
    if (architecture.other_interactions if index > 0 else architecture.first_interaction) == "residual":
        self_connection = ResidualSelfConnection(irreps_in, irreps_out, context)
    else:
        self_connection = MessageSelfConnection(harmonics, context)
    basis_plan = products.product_basis.product_basis(harmonics, irreps_out, architecture.correlation)
    return Layer(interaction, self_connection, ProductBasis(basis_plan, context))


def _forces(
    architecture: Architecture, products: TensorProducts, statistics: DatasetStatistics, context: LayerContext
) -> GradientForces | DirectForces:
    if architecture.forces == "gradient":
        return GradientForces()
    plan = products.product_basis.product_basis(architecture.harmonics, VECTOR, architecture.correlation)
    return DirectForces(architecture, plan, statistics.scale, context)
