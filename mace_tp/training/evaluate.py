"""Evaluation: errors over a data set, and predictions for each configuration."""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from mace_tp.data.graphs import Graph
from mace_tp.graph import GraphBatch
from mace_tp.metrics import ErrorSums, add
from mace_tp.potential import Prediction
from mace_tp.training.state import Params
from mace_tp.training.step import CompiledStep


@dataclasses.dataclass(frozen=True)
class ConfigurationPrediction:
    """Prediction for one configuration, on the host."""

    interaction_energy: float  # eV, without E0
    forces: np.ndarray  # [atoms, 3], eV/Å
    stress: np.ndarray  # [3, 3], eV/Å³; zero where the cell has no volume


def evaluate(eval_step: CompiledStep, params: Params, batches: Iterable[GraphBatch]) -> ErrorSums:
    """Sums of errors over all batches, on the device.

    Raises:
        ValueError: there is no batch.
    """
    total: ErrorSums | None = None
    for batch in batches:
        _, sums = eval_step(params, batch)
        total = sums if total is None else add(total, sums)
    if total is None:
        raise ValueError("evaluate needs at least one batch")
    return total


def predictions(eval_step: CompiledStep, params: Params, graphs: Sequence[Graph], batches: Iterable[GraphBatch]) -> list[ConfigurationPrediction]:
    """Prediction of every graph, in order; the batches hold the graphs in the same order."""
    results: list[ConfigurationPrediction] = []
    for batch in batches:
        host: Prediction = jax.device_get(eval_step(params, batch)[0])
        first_node = 0
        for i in range(int(np.sum(batch.graph_mask))):
            num_nodes = graphs[len(results)].num_nodes
            forces = host.forces[first_node : first_node + num_nodes]
            results.append(ConfigurationPrediction(float(host.energy[i]), forces, host.stress[i]))
            first_node += num_nodes
    return results
