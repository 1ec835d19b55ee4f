"""Energy → forces and stress, by one gradient with respect to the edge vectors."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from mace_tp.graph import GraphBatch, edge_vectors, gather, segment_sum, sum_over_graphs


@struct.dataclass
class Prediction:
    """Predicted energies, forces and stresses of a batch."""

    energy: jax.Array  # [graphs], eV: interaction energy, without E0
    node_energy: jax.Array  # [nodes], eV: share of each atom in the energy; meaningless in padding
    forces: jax.Array  # [nodes, 3], eV/Å
    stress: jax.Array | None  # [graphs, 3, 3], eV/Å³, ASE's sign; zero where the cell has no volume; None with direct forces


NodeEnergy = Callable[[jax.Array, GraphBatch], jax.Array]
"""(edge vectors [edges, 3] in Å, batch) → energy of each node [nodes] in eV. The two edges of a pair always have opposite vectors."""


def predict(node_energy: NodeEnergy, batch: GraphBatch, cutoff: float) -> Prediction:
    """Energy, forces and stress of a batch, for any energy that depends on positions only through edge vectors.

    With g_e = dE/dv_e of the edge vector v_e = r_receiver - r_sender + shift, the forces are F_i = Σ_{e from i} g_e - Σ_{e to i} g_e.
    The derivative by a symmetric strain is the symmetric part of Σ_e v_e ⊗ g_e.

    Args:
        node_energy: energy of each node as a function of the edge vectors.
        batch: configurations.
        cutoff: length given to padded edges, Å.
    """
    vectors = edge_vectors(batch, cutoff)

    def total_energy(vectors: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        energies = node_energy(vectors, batch)
        energy = sum_over_graphs(energies, batch)
        return jnp.sum(energy), (energy, energies)

    gradient, (energy, energies) = jax.grad(total_energy, has_aux=True)(vectors)
    gradient = jnp.where(batch.edge_mask[:, None], gradient, 0)
    received = segment_sum(gradient, batch.receivers, batch.num_nodes, indices_are_sorted=True)
    forces = segment_sum(gradient, batch.senders, batch.num_nodes) - received
    return Prediction(energy=energy, node_energy=energies, forces=forces, stress=_stress(vectors, gradient, batch))


def _stress(vectors: jax.Array, gradient: jax.Array, batch: GraphBatch) -> jax.Array:
    edge_virial = (vectors[:, :, None] * gradient[:, None, :]).reshape(-1, 9)
    edge_graph = gather(batch.node_graph, batch.receivers)
    virial = segment_sum(edge_virial, edge_graph, batch.num_graphs, indices_are_sorted=True).reshape(-1, 3, 3)
    volume = jnp.abs(jnp.linalg.det(batch.cell))[:, None, None]
    symmetric = (virial + virial.transpose(0, 2, 1)) / 2
    return jnp.where(volume > 0, symmetric / jnp.where(volume > 0, volume, 1), 0)
