"""A batch of two small configurations and a prediction with errors that are easy to add up by hand."""

import jax.numpy as jnp
import numpy as np

from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.graph import GraphBatch
from mace_tp.model.prediction import Prediction


def make_case() -> tuple[Prediction, GraphBatch]:
    """Two atoms with stress, one atom without, and padding: two nodes and a graph.

    Energies are 0.2 eV too high and 0.6 eV too low, all force components 0.1 eV/Å too low and 0.5 eV/Å too high, all
    stress components 0.03 eV/Å³ too high. Where nothing is labelled or real the prediction is far from the zeros there.
    """
    rng = np.random.default_rng(0)
    real, node_graph = np.array([True, True, True, False, False]), np.array([0, 0, 1, 2, 2], np.int32)
    energy, forces, stress = np.array([-3.0, 1.5, 0.0]), rng.normal(size=(5, 3)) * real[:, None], np.zeros((3, 3, 3))
    stress[0] = rng.normal(size=(3, 3))
    batch = GraphBatch(
        species=np.zeros(5, np.int32), node_graph=node_graph, node_mask=real,
        senders=np.full(EDGE_BLOCK, 4, np.int32), receivers=np.full(EDGE_BLOCK, 4, np.int32), edge_vectors=np.zeros((EDGE_BLOCK, 3)),
        edge_mask=np.zeros(EDGE_BLOCK, bool), edge_pair=np.zeros(EDGE_BLOCK, np.int32), pair_edges=np.zeros((1, 2), np.int32),
        cell=np.zeros((3, 3, 3)), graph_mask=np.array([True, True, False]),
        energy=energy, forces=forces, stress=stress, energy_mask=np.array([True, True, False]),
        forces_mask=np.array([True, True, False]), stress_mask=np.array([True, False, False]),
    )  # fmt: skip
    prediction = Prediction(
        energy=jnp.asarray(energy + np.array([0.2, -0.6, 7.0])),
        node_energy=jnp.zeros(5),
        forces=jnp.asarray(forces + np.array([-0.1, -0.1, 0.5, 7.0, 7.0])[:, None]),
        stress=jnp.asarray(stress + np.array([0.03, 7.0, 7.0])[:, None, None]),
    )
    return prediction, batch
