"""Results of a training: the record of each epoch, then test errors, totals and plots."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mace_tp.data.elements import symbol
from mace_tp.data.graphs import Graph
from mace_tp.evaluation.batches import ConfigurationPrediction, evaluate_and_predict
from mace_tp.evaluation.evaluate import short_names
from mace_tp.evaluation.metrics import summarize
from mace_tp.model.parameters import Params
from mace_tp.run_directory import METRICS, PLOTS, RESULTS, read_metrics, read_results
from mace_tp.training.datasets import Datasets
from mace_tp.training.preparation import Setup
from mace_tp.training.progress import Epoch

# Names of the quantiles of a step: 0, 1/4, 1/2, 3/4 and 1.
_QUANTILES = ("step_seconds_min", "step_seconds_q1", "step_seconds", "step_seconds_q3", "step_seconds_max")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Predictions and errors of the best model for one data set."""

    graphs: list[Graph]
    predictions: list[ConfigurationPrediction]
    errors: dict[str, float]  # the keys of `metrics.jsonl`, and `num_configs`


def final_outcomes(setup: Setup, params: Params) -> dict[str, Outcome]:
    """Errors and predictions for `valid` and for every test file."""
    outcomes: dict[str, Outcome] = {}
    for name, graphs in {"valid": setup.datasets.valid, **setup.datasets.test}.items():
        sums, predicted = evaluate_and_predict(setup.eval_step, params, graphs, setup.eval_loaders[name].epoch(0))
        outcomes[name] = Outcome(graphs, predicted, summarize(sums) | {"num_configs": len(graphs)})
    return outcomes


def epoch_record(number: int, step: int, epoch: Epoch, valid_loss: float, errors: dict[str, float]) -> dict[str, Any]:
    """The record of an epoch and its validation errors in `metrics.jsonl`; the caller adds the times of the whole training.

    Args:
        number: of the epoch, counted from 1.
        step: updates made so far.
        epoch: sums over its batches.
        valid_loss: over the validation set.
        errors: likewise, by the keys of `metrics.jsonl`.
    """
    return {
        "epoch": number,
        "step": step,
        "learning_rate": epoch.learning_rate,
        "train_loss": epoch.loss,
        "num_skipped": epoch.num_skipped,
        "valid_loss": valid_loss,
        **errors,
        "epoch_seconds": epoch.seconds - epoch.compile_seconds,
        **dict(zip(_QUANTILES, epoch.step_quantiles or [None] * len(_QUANTILES), strict=True)),
        "cpu_per_wall": epoch.cpu_per_wall,
    }


def collect_results(run_dir: Path, setup: Setup, errors: dict[str, dict[str, float]], totals: dict[str, Any]) -> dict[str, Any]:
    """The contents of `results.json`.

    Args:
        run_dir: holds `metrics.jsonl` of all sessions, from which the medians come.
        setup: of the training.
        errors: of `valid` and of every test file.
        totals: counts and times of the whole training; added as they are.
    """
    seen = {
        "data": _about_data(setup.datasets),
        "valid": errors["valid"],
        "test": {name: values for name, values in errors.items() if name != "valid"},
    }
    # A finished run that was resumed without another step keeps its costs, and the data that it was trained on.
    before = read_results(run_dir / RESULTS) if totals["first_step_seconds"] is None else None
    if before is not None:
        seen["data"]["train_and_valid"] = before["data"]["train_and_valid"]
        return before | seen
    records = read_metrics(run_dir / METRICS)
    steady = [record for record in records[1:] if record.get("step_seconds") is not None] or records
    return {
        "tensor_product": dataclasses.asdict(setup.model.tensor_product),
        "forces": setup.model.architecture.forces,
        "num_parameters": setup.model.num_parameters,
        "flops_per_step": setup.train_step.flops(),
        "num_compilations": setup.train_step.num_compilations,
        "epoch_seconds": _median(record["epoch_seconds"] for record in steady),
        "step_seconds": _median(record.get("step_seconds") for record in steady),
        **spread_of_steps(steady),
        **totals,
        **seen,
    }


def spread_of_steps(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Minimum and quartiles of the step time, s, over the five quantiles of every epoch, and the median of `cpu_per_wall`."""
    steps = [record[name] for record in records for name in _QUANTILES if record.get(name) is not None]
    spread = {name: float(np.quantile(steps, q)) if steps else None for name, q in zip(_QUANTILES, (0, 0.25, 0.5, 0.75, 1), strict=True)}
    del spread["step_seconds"]
    return spread | {"cpu_per_wall": _median(record.get("cpu_per_wall") for record in records)}


def _about_data(datasets: Datasets) -> dict[str, Any]:
    """Fingerprints of the data and the E0s that were subtracted (eV). Errors of two runs are comparable if these agree."""
    statistics = datasets.statistics
    energies = zip(map(symbol, statistics.atomic_numbers), statistics.atomic_energies, strict=True)
    return dataclasses.asdict(datasets.fingerprints) | {"atomic_energies": dict(energies)}


def draw(run_dir: Path, outcomes: dict[str, Outcome]) -> None:
    """Draw learning curves and parity plots into `plots/`."""
    from mace_tp.evaluation.parity_plots import draw_parity
    from mace_tp.training.plots import learning_curves

    folder = run_dir / PLOTS
    folder.mkdir(exist_ok=True)
    learning_curves(read_metrics(run_dir / METRICS), folder / "learning_curves.png")
    for path, name in short_names(outcomes).items():
        draw_parity(outcomes[path].graphs, outcomes[path].predictions, name, folder)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
