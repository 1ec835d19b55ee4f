"""Errors and predictions of a potential on files."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mace_tp.data.batching import BatchLoader, choose_buckets
from mace_tp.data.configuration import Configuration, LabelKeys
from mace_tp.data.graphs import Graph, build_graphs
from mace_tp.data.readers import read_configurations, require_labels
from mace_tp.data.splits import separate_isolated_atoms
from mace_tp.data.weights import weigh
from mace_tp.errors import InputError
from mace_tp.evaluation.batches import ConfigurationPrediction, evaluate_and_predict, make_eval_step
from mace_tp.evaluation.errors_by_group import Breakdown, ConfigurationErrors, break_down, configuration_errors
from mace_tp.evaluation.metrics import summarize
from mace_tp.model.potential import Potential
from mace_tp.model.programs import make_predict

_SUFFIXES = re.compile(r"(\.(extxyz|xyz|npz|db|traj))?(\.(gz|xz|bz2))?$")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The configurations of one file with their predictions and errors."""

    configurations: list[Configuration]
    graphs: list[Graph]
    predictions: list[ConfigurationPrediction]
    errors: dict[str, float]  # meV/atom, meV/Å, meV/Å³, and num_configs

    @property
    def is_labelled(self) -> bool:
        """Whether the file has a label to compare predictions with."""
        return self.errors.keys() != {"num_configs"}

    def total_energies(self, model: Potential) -> list[float]:
        """Predicted energies, E0s included, eV."""
        zero = np.asarray(model.statistics.atomic_energies)
        return [float(p.interaction_energy + zero[g.species].sum()) for g, p in zip(self.graphs, self.predictions, strict=True)]

    def configuration_errors(self) -> list[ConfigurationErrors]:
        """Predictions minus labels, for every configuration."""
        return configuration_errors(self.configurations, self.graphs, self.predictions)

    def breakdown(self, num_worst: int = 10) -> Breakdown:
        """Errors by element and by configuration type, and the worst configurations."""
        return break_down(self.configuration_errors(), num_worst)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Name the plots of each file: the file's stem, with a number where an earlier file has the same stem."""
    names: dict[str, str] = {}
    for path in paths:
        stem = _SUFFIXES.sub("", Path(path).name)
        candidates = (stem if number == 1 else f"{stem}_{number}" for number in itertools.count(1))
        names[path] = next(name for name in candidates if name not in names.values())
    return names


class Evaluator:
    """Evaluates files with a potential, in batches of several configurations. Each shape of batch is compiled once.

    Args:
        model: to be evaluated.
        batch_size: configurations in a batch.
    """

    def __init__(self, model: Potential, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size
        self._eval_step = make_eval_step(make_predict(model.graphdef))

    def evaluate_file(self, path: str, keys: LabelKeys, *, skip_bad: bool = False) -> Evaluation:
        """Evaluate every configuration of a file except frames tagged as isolated atoms.

        A label whose weight in the file is zero does not enter the errors; other weights have no effect.

        Args:
            path: any file of the training's formats.
            keys: names of the labels.
            skip_bad: leave out frames that cannot be used, instead of raising an error.

        Raises:
            InputError: the file cannot be used, has an element that the model does not know, or has nothing under a key that was chosen.
        """
        configurations, _ = separate_isolated_atoms(read_configurations(path, keys, skip_bad=skip_bad))
        if not configurations:
            raise InputError(f"{path}: no configuration besides isolated atoms")
        require_labels(configurations, keys, (), path)
        return self.evaluate(weigh(configurations, {}))

    def evaluate(self, configurations: Sequence[Configuration]) -> Evaluation:
        """Evaluate configurations, in their order.

        Raises:
            InputError: an element that the model does not know.
        """
        statistics, params = self._model.statistics, self._model.params
        graphs = build_graphs(configurations, statistics.atomic_numbers, statistics.atomic_energies, self._model.cutoff)
        buckets = choose_buckets(graphs, self._batch_size, shuffle=False)
        loader = BatchLoader(graphs, self._batch_size, buckets, self._model.dtype, shuffle=False)
        sums, predicted = evaluate_and_predict(self._eval_step, params, graphs, loader.epoch(0))
        return Evaluation(list(configurations), graphs, predicted, summarize(sums) | {"num_configs": len(graphs)})
