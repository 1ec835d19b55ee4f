"""Strategies for forces, (model, batch) → Prediction: the gradient of the energy, or vectors read from the layers."""

import dataclasses
from typing import Protocol

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
from flax import nnx, struct
from numpy.random import Generator

from mace_tp.graph import GraphBatch, edge_vectors, gather, nodes_per_graph, sum_over_graphs
from mace_tp.kernels.linear import Mix
from mace_tp.model.prediction import Prediction, predict
from mace_tp.nn.layer import LayerFeatures
from mace_tp.nn.linear import SpeciesLinear
from mace_tp.nn.product_basis import ProductBasis
from mace_tp.nn.vector_readout import GatedVectorReadout, LinearVectorReadout
from mace_tp.tensor_products.algebra.irreps import split_irreps
from mace_tp.tensor_products.plans import ProductBasisPlan

VECTOR = e3nn.Irreps("1o")


@struct.dataclass
class NodeOutputs:
    """What a model says of every node."""

    energy: jax.Array  # [nodes], eV, without E0
    layers: tuple[LayerFeatures, ...]


class NodeModel(Protocol):
    """A model of node energies that shows the features of its layers."""

    def __call__(self, edge_vectors: jax.Array, batch: GraphBatch) -> jax.Array: ...

    def outputs(self, edge_vectors: jax.Array, batch: GraphBatch) -> NodeOutputs: ...


@dataclasses.dataclass(frozen=True)
class GradientForces:
    """Forces and stress are derivatives of the energy; no parameters of their own."""

    def __call__(self, model: NodeModel, batch: GraphBatch, cutoff: float) -> Prediction:
        return predict(model, batch, cutoff)


class DirectForces(nnx.Module):
    """Forces are read from the 1o features of every layer; the energy has no part in them, and there is no stress.

    The last layer makes scalars only. Its vectors come from a product basis of their own over the same A-basis, so that the energy and its
    parameters are those of a model with `GradientForces`, to which they carry over exactly.

    Args:
        plan: product basis from harmonics to 1o.
        hidden: irreps between the layers; 1o is among them.
        irreps_last: irreps that the last layer receives.
        num_layers: layers of the model.
        width: hidden channels of the last readout.
        scale: of the forces, eV/Å.
        mix: what evaluates linear maps.
        channels: of the features.
        num_species: elements.
    """

    def __init__(
        self, plan: ProductBasisPlan, hidden: e3nn.Irreps, irreps_last: e3nn.Irreps, num_layers: int, width: int, scale: float,
        mix: Mix,
        *, channels: int, num_species: int, dtype: jnp.dtype, rng: Generator,
    ) -> None:  # fmt: skip
        self.hidden = hidden
        self.scale = scale
        self.product_basis = ProductBasis(plan, channels, num_species, mix, dtype=dtype, rng=rng)
        self.skip = SpeciesLinear(irreps_last, VECTOR, channels, num_species, mix, dtype=dtype, rng=rng)
        self.readouts = nnx.List([LinearVectorReadout(channels, dtype=dtype, rng=rng) for _ in range(num_layers - 1)])
        self.last_readout = GatedVectorReadout(channels, width, dtype=dtype, rng=rng)

    def __call__(self, model: NodeModel, batch: GraphBatch, cutoff: float) -> Prediction:
        outputs = model.outputs(edge_vectors(batch, cutoff), batch)
        forces = self.scale * self._node_vectors(outputs.layers, batch)
        return Prediction(
            energy=sum_over_graphs(outputs.energy, batch),
            node_energy=outputs.energy,
            forces=without_net_force(forces, batch),
            stress=None,
        )

    def _node_vectors(self, layers: tuple[LayerFeatures, ...], batch: GraphBatch) -> jax.Array:
        """Sum of the readouts [nodes, 3]."""
        *others, last = layers
        vectors = self.product_basis(last.a_basis, batch.species, self.skip(last.received, batch.species))
        total = self.last_readout(last.made[0], vectors)
        for readout, layer in zip(self.readouts, others, strict=True):
            total += readout(split_irreps(layer.made, self.hidden)[VECTOR[0].ir])
        return total


def without_net_force(forces: jax.Array, batch: GraphBatch) -> jax.Array:
    """Forces [nodes, 3] minus their mean over the real atoms of each graph; zero for padded atoms.

    The gradient of an energy sums to zero by itself. Without this a structure would set itself in motion. What two structures that are
    far apart in one configuration feel depends on each other by it, and there is no such step for the torque.
    """
    mean = sum_over_graphs(forces, batch) / nodes_per_graph(batch)[:, None]
    return jnp.where(batch.node_mask[:, None], forces - gather(mean, batch.node_graph), 0)
