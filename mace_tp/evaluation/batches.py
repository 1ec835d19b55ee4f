"""Evaluation of padded batches: errors over a data set, and predictions for each configuration."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np

from mace_tp.data.graphs import Graph
from mace_tp.evaluation.metrics import ErrorSums, add, error_sums
from mace_tp.graph import GraphBatch
from mace_tp.model.parameters import Params
from mace_tp.model.prediction import Prediction
from mace_tp.model.programs import CompiledStep, Predict


@dataclasses.dataclass(frozen=True)
class ConfigurationPrediction:
    """Prediction for one configuration, on the host."""

    interaction_energy: float  # eV, without E0
    forces: np.ndarray  # [atoms, 3], eV/Å
    stress: np.ndarray | None  # [3, 3], eV/Å³; zero where the cell has no volume; None with direct forces


def evaluate(eval_step: CompiledStep, params: Params, batches: Iterable[GraphBatch]) -> ErrorSums:
    """Sums of errors over all batches, at least one, on the device."""
    return functools.reduce(add, (eval_step(params, batch)[1] for batch in batches))


def evaluate_and_predict(
    eval_step: CompiledStep, params: Params, graphs: Sequence[Graph], batches: Iterable[GraphBatch]
) -> tuple[ErrorSums, list[ConfigurationPrediction]]:
    """Sums of errors, and the prediction for every graph. The batches must hold the graphs in the same order."""
    predicted: list[ConfigurationPrediction] = []

    def collect(batch: GraphBatch) -> ErrorSums:
        prediction, sums = eval_step(params, batch)
        count = int(np.sum(batch.graph_mask))
        predicted.extend(_split(jax.device_get(prediction), graphs[len(predicted) : len(predicted) + count]))
        return sums

    return functools.reduce(add, map(collect, batches)), predicted


def _split(prediction: Prediction, graphs: Sequence[Graph]) -> Iterator[ConfigurationPrediction]:
    """Split the prediction of a batch, on the host, into those of its graphs."""
    first_node = 0
    for i, graph in enumerate(graphs):
        forces = np.asarray(prediction.forces[first_node : first_node + graph.num_nodes])
        stress = None if prediction.stress is None else np.asarray(prediction.stress[i])
        yield ConfigurationPrediction(float(prediction.energy[i]), forces, stress)
        first_node += graph.num_nodes


def make_eval_step(predict_batch: Predict) -> CompiledStep:
    """Compile (parameters, batch) → (prediction, sums of errors), which serves errors, plots and files of predictions."""

    def eval_step(params: Params, batch: GraphBatch) -> tuple[Prediction, ErrorSums]:
        prediction = predict_batch(params, batch)
        return prediction, error_sums(prediction, batch)

    return CompiledStep(eval_step, "the evaluation")
