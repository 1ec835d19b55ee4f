"""Strategies for forces: the gradient of the energy, or vectors read from the layers."""

import dataclasses
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
from flax import nnx, struct

from mace_tp.graph import GraphBatch, edge_vectors, gather, nodes_per_graph, sum_over_graphs
from mace_tp.model.architecture import Architecture
from mace_tp.model.prediction import Prediction, predict
from mace_tp.nn.context import LayerContext
from mace_tp.nn.layer import LayerFeatures
from mace_tp.nn.linear import SpeciesLinear
from mace_tp.nn.product_basis import ProductBasis
from mace_tp.nn.vector_readout import GatedVectorReadout, LinearVectorReadout
from mace_tp.tensor_products.algebra.irreps import split_irreps
from mace_tp.tensor_products.plans import ProductBasisPlan

VECTOR = e3nn.Irreps("1o")


@struct.dataclass
class NodeOutputs:
    """Outputs of a model for every node."""

    energy: jax.Array  # [nodes], eV, without E0
    layers: tuple[LayerFeatures, ...]


Outputs = Callable[[jax.Array, GraphBatch], NodeOutputs]
"""(edge vectors [edges, 3] in Å, batch) → outputs: `MACE.outputs`."""


@dataclasses.dataclass(frozen=True)
class GradientForces:
    """Forces and stress are derivatives of the energy. It has no parameters."""

    def __call__(self, outputs: Outputs, batch: GraphBatch, cutoff: float) -> Prediction:
        return predict(lambda vectors, batch: outputs(vectors, batch).energy, batch, cutoff)


class DirectForces(nnx.Module):
    """Forces are read from the 1o features of every layer, independently of the energy. There is no stress.

    The last layer makes scalars only. Its vectors come from a second product basis over the same A-basis. The energy and its parameters
    are therefore those of a model with `GradientForces`, and can be copied to and from such a model exactly.

    Args:
        architecture: of the model; 1o is among its hidden irreps.
        plan: product basis from harmonics to 1o.
        scale: of the forces, eV/Å.
        context: of the model.
    """

    def __init__(self, architecture: Architecture, plan: ProductBasisPlan, scale: float, context: LayerContext) -> None:
        num_layers = architecture.num_interactions
        self.hidden = e3nn.Irreps(architecture.hidden_irreps)
        self.scale = scale
        self.product_basis = ProductBasis(plan, context)
        self.skip = SpeciesLinear(architecture.irreps_in(num_layers - 1), VECTOR, context)
        self.readouts = nnx.List([LinearVectorReadout(context) for _ in range(num_layers - 1)])
        self.last_readout = GatedVectorReadout(architecture.readout_mlp, context)

    def __call__(self, outputs: Outputs, batch: GraphBatch, cutoff: float) -> Prediction:
        found = outputs(edge_vectors(batch, cutoff), batch)
        forces = self.scale * self._node_vectors(found.layers, batch)
        return Prediction(
            energy=sum_over_graphs(found.energy, batch),
            node_energy=found.energy,
            forces=without_net_force(forces, batch),
            stress=None,
        )

    def _node_vectors(self, layers: tuple[LayerFeatures, ...], batch: GraphBatch) -> jax.Array:
        """Sum of the readouts of all layers [nodes, 3]."""
        *earlier, last = layers
        vectors = self.product_basis(last.a_basis, batch.species, self.skip(last.node_feats_in, batch.species))
        total = self.last_readout(last.node_feats[0], vectors)
        for readout, layer in zip(self.readouts, earlier, strict=True):
            total += readout(split_irreps(layer.node_feats, self.hidden)[e3nn.Irrep(1, -1)])
        return total


def without_net_force(forces: jax.Array, batch: GraphBatch) -> jax.Array:
    """Subtract from forces [nodes, 3] their mean over the real atoms of each graph; padded atoms get zero.

    Direct forces need not sum to zero, as a gradient does; without this correction the center of mass would accelerate. The correction
    is not local: two distant fragments in one configuration influence each other. The net torque is not corrected.
    """
    mean = sum_over_graphs(forces, batch) / nodes_per_graph(batch)[:, None]
    return jnp.where(batch.node_mask[:, None], forces - gather(mean, batch.node_graph), 0)
