"""Training loss: weighted mean squared errors of energy per atom, forces and stress."""

import jax
import jax.numpy as jnp
from flax import struct

from mace_tp.config import LossConfig, StageTwoConfig
from mace_tp.evaluation.metrics import ErrorSums, comparable_stress, labelled_nodes, weigh_errors
from mace_tp.graph import GraphBatch, nodes_per_graph
from mace_tp.model.prediction import Prediction


@struct.dataclass
class LossWeights:
    """Weight of each mean squared error. The weights are arguments of the step, so a new stage needs no compilation."""

    energy: jax.Array | float  # 1/eV²
    forces: jax.Array | float  # Å²/eV²
    stress: jax.Array | float  # Å⁶/eV²


def weighted_loss(prediction: Prediction, batch: GraphBatch, weights: LossWeights) -> jax.Array:
    """w_E <((E - Ê)/N)²> + w_F <(F - F̂)²> + w_S <(σ - σ̂)²>, each a mean over the labelled values, or zero if there are none.

    If the batch has label weights, they multiply the squared errors; the means still divide by the number of values.

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


def _masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)


def build_loss_weights(config: LossConfig | StageTwoConfig) -> LossWeights:
    return LossWeights(energy=config.energy_weight, forces=config.forces_weight, stress=config.stress_weight)


def loss_from_sums(sums: ErrorSums, weights: LossWeights) -> jax.Array:
    """The training loss over all batches that were summed, as if they were one batch."""

    def mean(total: jax.Array, count: jax.Array) -> jax.Array:
        return total / jnp.maximum(count, 1)

    return (
        weights.energy * mean(sums.energy_squared_weighted, sums.num_energies)
        + weights.forces * mean(sums.force_squared_weighted, sums.num_force_components)
        + weights.stress * mean(sums.stress_squared_weighted, sums.num_stress_components)
    )
