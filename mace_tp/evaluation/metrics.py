"""Error metrics: sums that can be merged over batches, and the means and RMSEs derived from them."""

import math

import jax
import jax.numpy as jnp
from flax import struct

from mace_tp.graph import GraphBatch, nodes_per_graph
from mace_tp.model.prediction import Prediction

MILLI = 1000.0  # eV → meV
UNITS = {
    "energy_mae": "meV/atom",
    "energy_rmse": "meV/atom",
    "energy_rmse_per_config": "meV",
    "force_mae": "meV/Å",
    "force_rmse": "meV/Å",
    "stress_mae": "meV/Å³",
    "stress_rmse": "meV/Å³",
}
"""Units of the errors that `summarize` returns."""


@struct.dataclass
class ErrorSums:
    """Sums over labelled configurations, atoms and components; means are taken once, at the end. Only the loss uses the weighted sums."""

    energy_abs: jax.Array  # Σ |ΔE|/N, eV/atom
    energy_squared: jax.Array  # Σ (ΔE/N)²
    energy_squared_weighted: jax.Array  # Σ w (ΔE/N)², with the weight of each configuration in the loss
    energy_squared_per_config: jax.Array  # Σ ΔE², eV²
    num_energies: jax.Array
    force_abs: jax.Array  # Σ over components, eV/Å
    force_squared: jax.Array
    force_squared_weighted: jax.Array
    num_force_components: jax.Array
    stress_abs: jax.Array  # Σ over nine components, eV/Å³
    stress_squared: jax.Array
    stress_squared_weighted: jax.Array
    num_stress_components: jax.Array


def error_sums(prediction: Prediction, batch: GraphBatch) -> ErrorSums:
    """Sums of the errors of one batch, without padding and missing labels."""
    energy_error = jnp.where(batch.energy_mask, prediction.energy - batch.energy, 0)
    per_atom = energy_error / nodes_per_graph(batch)
    node_mask = labelled_nodes(batch)
    force_error = jnp.where(node_mask[:, None], prediction.forces - batch.forces, 0)
    predicted_stress, stress_mask = comparable_stress(prediction, batch)
    stress_error = jnp.where(stress_mask[:, None, None], predicted_stress - batch.stress, 0)
    weighted_energy, weighted_force, weighted_stress = weigh_errors(batch, per_atom**2, force_error**2, stress_error**2)
    return ErrorSums(
        energy_abs=jnp.sum(jnp.abs(per_atom)),
        energy_squared=jnp.sum(per_atom**2),
        energy_squared_weighted=jnp.sum(weighted_energy),
        energy_squared_per_config=jnp.sum(energy_error**2),
        num_energies=jnp.sum(batch.energy_mask),
        force_abs=jnp.sum(jnp.abs(force_error)),
        force_squared=jnp.sum(force_error**2),
        force_squared_weighted=jnp.sum(weighted_force),
        num_force_components=3 * jnp.sum(node_mask),
        stress_abs=jnp.sum(jnp.abs(stress_error)),
        stress_squared=jnp.sum(stress_error**2),
        stress_squared_weighted=jnp.sum(weighted_stress),
        num_stress_components=9 * jnp.sum(stress_mask),
    )


def add(left: ErrorSums, right: ErrorSums) -> ErrorSums:
    return jax.tree.map(jnp.add, left, right)


def summarize(sums: ErrorSums) -> dict[str, float]:
    """Errors by the names of `metrics.jsonl`, in `UNITS`, without kinds that have no label."""
    values = {name: float(value) for name, value in vars(jax.device_get(sums)).items()}
    errors: dict[str, float] = {}
    if count := values["num_energies"]:
        errors["energy_mae"] = MILLI * values["energy_abs"] / count
        errors["energy_rmse"] = MILLI * math.sqrt(values["energy_squared"] / count)
        errors["energy_rmse_per_config"] = MILLI * math.sqrt(values["energy_squared_per_config"] / count)
    if count := values["num_force_components"]:
        errors["force_mae"] = MILLI * values["force_abs"] / count
        errors["force_rmse"] = MILLI * math.sqrt(values["force_squared"] / count)
    if count := values["num_stress_components"]:
        errors["stress_mae"] = MILLI * values["stress_abs"] / count
        errors["stress_rmse"] = MILLI * math.sqrt(values["stress_squared"] / count)
    return errors


def weigh_errors(batch: GraphBatch, energy: jax.Array, forces: jax.Array, stress: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared errors [graphs], [nodes, 3] and [graphs, 3, 3] times the weights of their configurations, if the batch has weights."""
    if batch.label_weights is None:
        return energy, forces, stress
    weights = batch.label_weights
    return weights[:, 0] * energy, weights[batch.node_graph, 1, None] * forces, weights[:, 2, None, None] * stress


def labelled_nodes(batch: GraphBatch) -> jax.Array:
    """True for real atoms with labelled forces [nodes]."""
    return batch.node_mask & batch.forces_mask[batch.node_graph]


def comparable_stress(prediction: Prediction, batch: GraphBatch) -> tuple[jax.Array, jax.Array]:
    """Stress [graphs, 3, 3], and a mask that is true where stress is predicted and labelled [graphs]."""
    if prediction.stress is None:
        return batch.stress, jnp.zeros_like(batch.stress_mask)
    return prediction.stress, batch.stress_mask
