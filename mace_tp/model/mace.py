"""MACE: element embedding → (interaction → product basis → readout) × layers → node energies; and a strategy for the forces."""

import dataclasses

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
from flax import nnx
from numpy.random import Generator

from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.graph import GraphBatch
from mace_tp.model.forces import VECTOR, DirectForces, GradientForces, NodeOutputs
from mace_tp.nn.embedding import ElementEmbedding, edge_harmonics, find_pairs, radial_embedding
from mace_tp.nn.interaction import Interaction, MessageSelfConnection, ResidualSelfConnection
from mace_tp.nn.layer import Layer
from mace_tp.nn.mlp import RadialMLP
from mace_tp.nn.normalization import AverageNeighbors, Density
from mace_tp.nn.pair_repulsion import NoRepulsion, ZBLRepulsion
from mace_tp.nn.product_basis import ProductBasis
from mace_tp.nn.readout import LinearReadout, MLPReadout
from mace_tp.ranges import at_least, not_negative, one_of, positive
from mace_tp.tensor_products.registry import TensorProducts

_SELF_CONNECTIONS = ("nonresidual", "residual")


@dataclasses.dataclass
class Architecture:
    """Shape of a MACE model; `model` in the configuration."""

    cutoff: float = positive(5.0)  # Å
    l_max: int = not_negative(3)  # highest degree of the edge harmonics
    hidden_irreps: str = "0e+1o"  # degrees and parities of the features between layers; channels multiply them
    correlation: int = positive(3)  # highest order of the product basis
    num_channels: int = positive(32)
    num_interactions: int = positive(2)  # layers
    radial_mlp: list[int] = positive([64, 64, 64])
    num_bessel: int = positive(8)
    cutoff_power: int = at_least(5, 2, "or forces jump at the cutoff")  # p of the polynomial envelope
    readout_mlp: int = positive(16)  # hidden width of the last readout
    first_interaction: str = one_of("nonresidual", _SELF_CONNECTIONS)  # the self-connection of the first layer
    other_interactions: str = one_of("residual", _SELF_CONNECTIONS)  # the self-connection of all later layers
    # Messages are divided by the mean number of neighbors, or by a learned density of each atom.
    message_normalization: str = one_of("average", ("average", "density"))
    # "agnesi" and "soft" transform lengths, relative to covalent radii, before the radial basis.
    distance_transform: str = one_of("none", ("none", "agnesi", "soft"))
    # "zbl" adds the screened Coulomb repulsion of nuclei that are closer than their covalent radii.
    pair_repulsion: str = one_of("none", ("none", "zbl"))
    # Gradient of the energy; or read directly from vector features, which is faster, but conserves no energy.
    forces: str = one_of("gradient", ("gradient", "direct"))


class MACE(nnx.Module):
    """Interaction energy of every node; the function of ACEsuit's `ScaleShiftMACE`.

    Source: Batatia et al. 2022 (MACE). The symmetric contraction uses the reduced basis (`symmetric_basis.py`).
    """

    def __init__(
        self,
        architecture: Architecture,
        tensor_products: TensorProducts,
        statistics: DatasetStatistics,
        *,
        dtype: jnp.dtype,
        rng: Generator,
    ) -> None:
        hidden = e3nn.Irreps(architecture.hidden_irreps)
        scalars = e3nn.Irreps("0e")
        self.architecture = architecture
        self.statistics = statistics
        self.embedding = ElementEmbedding(len(statistics.atomic_numbers), architecture.num_channels, dtype=dtype, rng=rng)
        self.layers = nnx.List([])
        self.readouts = nnx.List([])
        irreps_in = scalars
        for i in range(architecture.num_interactions):
            is_last = i == architecture.num_interactions - 1
            irreps_out = scalars if is_last else hidden
            residual = (architecture.other_interactions if i > 0 else architecture.first_interaction) == "residual"
            self.layers.append(_layer(architecture, tensor_products, statistics, irreps_in, irreps_out, residual, dtype, rng))
            if is_last and architecture.num_interactions > 1:
                self.readouts.append(MLPReadout(architecture.num_channels, architecture.readout_mlp, dtype=dtype, rng=rng))
            else:
                self.readouts.append(LinearReadout(architecture.num_channels, dtype=dtype, rng=rng))
            irreps_in = irreps_out
        self.repulsion = _REPULSIONS[architecture.pair_repulsion](statistics.atomic_numbers, architecture.cutoff_power)
        # Last, so that a seed means the same energy whatever the forces are.
        self.forces = _FORCES[architecture.forces](architecture, tensor_products, statistics, dtype, rng)

    def __call__(self, edge_vectors: jax.Array, batch: GraphBatch) -> jax.Array:
        """Interaction energy of each node [nodes], eV, without E0. Arguments as for `outputs`."""
        return self.outputs(edge_vectors, batch).energy

    def outputs(self, edge_vectors: jax.Array, batch: GraphBatch) -> NodeOutputs:
        """Interaction energy of each node, and the features of every layer. Scalars must come first in the hidden irreps.

        Args:
            edge_vectors: receiver - sender [edges, 3], Å; those of a pair must be opposite, for what depends on the length alone looks at
                the first of the two. The gradient by a single edge vector has therefore no meaning, only that by both.
            batch: supplies elements and connectivity; its positions are not looked at.
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
            node_feats = features[-1].made
            energy += readout(node_feats[0])
        return NodeOutputs(energy=statistics.scale * energy + statistics.shift, layers=tuple(features))


def _layer(
    architecture: Architecture, tensor_products: TensorProducts, statistics: DatasetStatistics, irreps_in: e3nn.Irreps,
    irreps_out: e3nn.Irreps, residual: bool, dtype: jnp.dtype, rng: Generator,
) -> Layer:  # fmt: skip
    channels, num_species = architecture.num_channels, len(statistics.atomic_numbers)
    harmonics = e3nn.s2_irreps(architecture.l_max)
    plan = tensor_products.interaction.interaction(irreps_in, harmonics, harmonics)
    radial_mlp = RadialMLP(architecture.num_bessel, architecture.radial_mlp, plan.num_weights, channels, dtype=dtype, rng=rng)
    normalization = _NORMALIZATIONS[architecture.message_normalization](architecture, statistics, dtype, rng)
    interaction = Interaction(plan, irreps_in, harmonics, radial_mlp, normalization, channels, tensor_products.mix, dtype=dtype, rng=rng)
    if residual:
        self_connection = ResidualSelfConnection(irreps_in, irreps_out, channels, num_species, tensor_products.mix, dtype=dtype, rng=rng)
    else:
        self_connection = MessageSelfConnection(harmonics, channels, num_species, tensor_products.mix, dtype=dtype, rng=rng)
    basis_plan = tensor_products.product_basis.product_basis(harmonics, irreps_out, architecture.correlation)
    return Layer(interaction, self_connection, ProductBasis(basis_plan, channels, num_species, tensor_products.mix, dtype=dtype, rng=rng))


def _average_neighbors(architecture: Architecture, statistics: DatasetStatistics, dtype: jnp.dtype, rng: Generator) -> AverageNeighbors:
    return AverageNeighbors(statistics.avg_num_neighbors)


def _density(architecture: Architecture, statistics: DatasetStatistics, dtype: jnp.dtype, rng: Generator) -> Density:
    return Density(architecture.num_bessel, dtype=dtype, rng=rng)


def _gradient_forces(
    architecture: Architecture, tensor_products: TensorProducts, statistics: DatasetStatistics, dtype: jnp.dtype, rng: Generator
) -> GradientForces:
    return GradientForces()


def _direct_forces(
    architecture: Architecture, tensor_products: TensorProducts, statistics: DatasetStatistics, dtype: jnp.dtype, rng: Generator
) -> DirectForces:
    hidden = e3nn.Irreps(architecture.hidden_irreps)
    plan = tensor_products.product_basis.product_basis(e3nn.s2_irreps(architecture.l_max), VECTOR, architecture.correlation)
    return DirectForces(
        plan, hidden, hidden if architecture.num_interactions > 1 else e3nn.Irreps("0e"), architecture.num_interactions,
        architecture.readout_mlp, statistics.scale, tensor_products.mix,
        channels=architecture.num_channels, num_species=len(statistics.atomic_numbers), dtype=dtype, rng=rng,
    )  # fmt: skip


# What `model.message_normalization`, `model.pair_repulsion` and `model.forces` name.
_NORMALIZATIONS = {"average": _average_neighbors, "density": _density}
_REPULSIONS = {"none": NoRepulsion, "zbl": ZBLRepulsion}
_FORCES = {"gradient": _gradient_forces, "direct": _direct_forces}
