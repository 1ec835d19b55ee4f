"""Training loss: weighted mean squared errors of energy per atom, forces and stress."""

import jax
import jax.numpy as jnp
from flax import struct

from mace_tp.graph import GraphBatch, nodes_per_graph
from mace_tp.model.prediction import Prediction


@struct.dataclass
class LossWeights:
    """Weight of each mean squared error; plain numbers, so that a change of stage compiles nothing."""

    energy: jax.Array | float  # 1/eV²
    forces: jax.Array | float  # Å²/eV²
    stress: jax.Array | float  # Å⁶/eV²


def weighted_loss(prediction: Prediction, batch: GraphBatch, weights: LossWeights) -> jax.Array:
    """w_E <((E - Ê)/N)²> + w_F <(F - F̂)²> + w_S <(σ - σ̂)²>, each mean over what is labelled; zero where nothing is.

    The squared errors of a configuration are multiplied by its own weights, where the batch has any; the means stay those over numbers.

    Source: ACEsuit's `WeightedEnergyForcesStressLoss`.
    """
    predicted_stress, stress_mask = comparable_stress(prediction, batch)
    squared_errors = weigh_errors(
        batch,
        ((prediction.energy - batch.energy) / nodes_per_graph(batch)) ** 2,
        (prediction.forces - batch.forces) ** 2,
        (predicted_stress - batch.stress) ** 2,
    )
    masks = batch.energy_mask, labelled_nodes(batch)[:, None], stress_mask[:, None, None]
    energy, forces, stress = map(_masked_mean, squared_errors, masks)
    return weights.energy * energy + weights.forces * forces + weights.stress * stress


def weigh_errors(batch: GraphBatch, energy: jax.Array, forces: jax.Array, stress: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared errors [graphs], [nodes, 3] and [graphs, 3, 3] times the weights of their configurations; unchanged where all are one."""
    if batch.label_weights is None:
        return energy, forces, stress
    weights = batch.label_weights
    return weights[:, 0] * energy, weights[batch.node_graph, 1, None] * forces, weights[:, 2, None, None] * stress


def labelled_nodes(batch: GraphBatch) -> jax.Array:
    """True for the real atoms whose forces are known [nodes]."""
    return batch.node_mask & batch.forces_mask[batch.node_graph]


def comparable_stress(prediction: Prediction, batch: GraphBatch) -> tuple[jax.Array, jax.Array]:
    """Stress [graphs, 3, 3], and true where it is predicted and its label known [graphs]."""
    if prediction.stress is None:
        return batch.stress, jnp.zeros_like(batch.stress_mask)
    return prediction.stress, batch.stress_mask


def _masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
