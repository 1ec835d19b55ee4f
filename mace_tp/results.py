"""The end of a training: test errors, totals, plots."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mace_tp import plots
from mace_tp.config import Config
from mace_tp.evaluation import short_names
from mace_tp.metrics import summarize
from mace_tp.parity import draw_parity
from mace_tp.preparation import Setup
from mace_tp.training.evaluate import evaluate, predictions
from mace_tp.training.state import Params


def final_errors(setup: Setup, params: Params) -> dict[str, dict[str, float]]:
    """Errors of `valid` and of every test file: the keys of `metrics.jsonl`, and `num_configs`."""
    return {
        name: summarize(evaluate(setup.eval_step, params, loader.epoch(0))) | {"num_configs": loader.num_graphs}
        for name, loader in setup.eval_loaders.items()
    }


def write_results(
    run_dir: Path, config: Config, setup: Setup, errors: dict[str, dict[str, float]], totals: dict[str, Any]
) -> dict[str, Any]:
    """Write `results.json` and return what it holds.

    Args:
        run_dir: holds `metrics.jsonl`, from which the medians come; also of the sessions before a resumption.
        config: for the tensor products.
        setup: for the counts of the compiled step.
        errors: from `final_errors`.
        totals: what only the training knows; added as it is.
    """
    records = plots.read_metrics(run_dir / "metrics.jsonl")
    steady = [record for record in records[1:] if record.get("step_seconds") is not None] or records
    results = {
        "tensor_product": dataclasses.asdict(config.tensor_product),
        "num_parameters": setup.model.num_parameters,
        "flops_per_step": setup.train_step.flops(),
        "num_compilations": setup.train_step.num_compilations,
        "epoch_seconds": _median(record["epoch_seconds"] for record in steady),
        "step_seconds": _median(record.get("step_seconds") for record in steady),
        "compile_seconds": sum(record["compile_seconds"] for record in records),
        **totals,
        "valid": errors["valid"],
        "test": {name: values for name, values in errors.items() if name != "valid"},
    }
    (run_dir / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
    return results


def draw(run_dir: Path, setup: Setup, params: Params) -> None:
    """Learning curves and parity plots, under `plots/`."""
    folder = run_dir / "plots"
    folder.mkdir(exist_ok=True)
    plots.learning_curves(plots.read_metrics(run_dir / "metrics.jsonl"), folder / "learning_curves.png")
    names = short_names(setup.eval_loaders)
    for name, graphs in {"valid": setup.datasets.valid, **setup.datasets.test}.items():
        predicted = predictions(setup.eval_step, params, graphs, setup.eval_loaders[name].epoch(0))
        draw_parity(graphs, predicted, names[name], folder)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
