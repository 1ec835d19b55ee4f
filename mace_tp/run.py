"""A whole training: data → model → epochs → test errors, all of it kept in a run directory."""

import dataclasses
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp import plots
from mace_tp.config import Config, build_device, build_dtype, build_loss_weights, build_schedule, check_config
from mace_tp.data.batching import BatchLoader, choose_buckets
from mace_tp.data.report import data_report
from mace_tp.datasets import Datasets, load_datasets
from mace_tp.environment import describe, peak_memory_mb
from mace_tp.errors import InputError
from mace_tp.evaluation import short_names
from mace_tp.loggers import JsonlLogger, Loggers, TrainingProgress, WandbLogger
from mace_tp.metrics import loss_from_sums, summarize
from mace_tp.parity import draw_parity
from mace_tp.saved_model import Model, create_model, save_model
from mace_tp.training.checkpoint import Checkpoints, Progress
from mace_tp.training.evaluate import evaluate, predictions
from mace_tp.training.loop import EpochSummary, Plan, Report, Stage, train_epoch
from mace_tp.training.optimizer import make_optimizer
from mace_tp.training.state import Params, TrainState, initial_state
from mace_tp.training.step import make_eval_step, make_predict, make_train_step

_LOG = logging.getLogger("mace_tp")


def train(config: Config, run_dir: Path, started: float) -> dict[str, Any]:
    """Train as configured and return what `results.json` holds.

    Args:
        config: the whole configuration.
        run_dir: exists; receives everything.
        started: time.monotonic() when the command began, from which `trainer.max_minutes` counts.

    Raises:
        InputError: something that the user gave cannot be used; raised before the training starts.
    """
    check_config(config)
    dtype = build_dtype(config)
    device = build_device(config)
    environment = describe(device, config.dtype)
    _LOG.info(" · ".join(f"{name} {value}" for name, value in environment.items()))
    with jax.default_device(device):
        return _Training(config, run_dir, started, dtype, device, environment).run()


class _Training:
    """The objects of one training, in the order in which they are made."""

    def __init__(
        self, config: Config, run_dir: Path, started: float, dtype: jnp.dtype, device: jax.Device, environment: dict[str, str | int]
    ) -> None:
        self.config, self.run_dir, self.started, self.device, self.environment = config, run_dir, started, device, environment
        self.datasets = load_datasets(config)
        batch_size, eval_batch_size = config.data.batch_size, config.data.valid_batch_size
        buckets = choose_buckets(self.datasets.train, batch_size, seed=config.seed)
        self.train_loader = BatchLoader(self.datasets.train, batch_size, buckets, dtype, seed=config.seed)
        # One set of shapes for all that is only evaluated: a compilation takes longer than the padding.
        evaluated = {"valid": self.datasets.valid, **self.datasets.test}
        buckets = choose_buckets([graph for graphs in evaluated.values() for graph in graphs], eval_batch_size, seed=config.seed)
        self.eval_loaders = {name: BatchLoader(graphs, eval_batch_size, buckets, dtype, shuffle=False) for name, graphs in evaluated.items()}
        self._report_data()
        self.model = create_model(config.model, config.tensor_product, self.datasets.statistics, dtype, config.seed)
        self._report_model()
        optimizer = config.optimizer
        transformation = make_optimizer(
            amsgrad=optimizer.amsgrad, beta1=optimizer.beta1, beta2=optimizer.beta2,
            weight_decay=optimizer.weight_decay, max_grad_norm=optimizer.max_grad_norm,
        )  # fmt: skip
        predict_batch = make_predict(self.model.graphdef, config.model.cutoff)
        self.train_step = make_train_step(predict_batch, transformation)
        self.eval_step = make_eval_step(predict_batch)
        self.checkpoints = Checkpoints(run_dir / "checkpoints")
        self.state: TrainState = initial_state(self.model.params, transformation)
        self.best_params: Params = jax.tree.map(jnp.copy, self.model.params)
        self.progress = Progress()
        self.schedule = build_schedule(optimizer)
        self._resume()
        self.plan = self._plan(dtype)
        self.loggers = self._loggers()
        self._last_save = time.monotonic()
        self.first_step_seconds: float | None = None

    def run(self) -> dict[str, Any]:
        try:
            self._epochs()
            results = self._finish()
        finally:
            self.checkpoints.close()
            self.loggers.finish()
        return results

    def _report_data(self) -> None:
        data, loader = self.datasets, self.train_loader
        _LOG.info(data.origin_of_energies)
        for line in data_report(data.train, data.valid, data.test, data.statistics, loader.buckets, self.config.data.batch_size, self.config.seed):
            _LOG.info(line)

    def _report_model(self) -> None:
        architecture = self.config.model
        products = f"{_product_name(self.config.tensor_product.interaction)} / {_product_name(self.config.tensor_product.product_basis)}"
        _LOG.info(
            "model: MACE, %d parameters, %d x (%s), l_max %d, correlation %d, %d layers, cutoff %g Å",
            self.model.num_parameters, architecture.num_channels, architecture.hidden_irreps, architecture.l_max, architecture.correlation,
            architecture.num_interactions, architecture.cutoff,
        )  # fmt: skip
        _LOG.info("tensor product: %s (interaction / product basis)", products)

    def _resume(self) -> None:
        if self.config.trainer.resume != "auto":
            return
        restored = self.checkpoints.restore(self.state, self.best_params)
        if restored is None:
            _LOG.info("resume: no checkpoint in %s yet; starting from the beginning", self.run_dir)
            return
        state, best_params, self.progress = restored
        # Arrays that are not bound to a device, as in a new training: for others every step would be compiled anew.
        self.state, self.best_params = jax.tree.map(jnp.asarray, jax.device_get((state, best_params)))
        self.schedule = dataclasses.replace(self.schedule, **self.progress.schedule)
        _LOG.info("resume: continuing after epoch %d", self.progress.epoch)

    def _plan(self, dtype: jnp.dtype) -> Plan:
        config, elapsed = self.config, self.progress.elapsed_seconds
        minutes = config.trainer.max_minutes
        stages = [Stage(0.0, build_loss_weights(config.loss))]
        if config.loss.stage_two.start < 1:
            stages.append(Stage(config.loss.stage_two.start, build_loss_weights(config.loss.stage_two)))
        return Plan(
            max_epochs=config.trainer.max_epochs,
            deadline=None if minutes is None else self.started - elapsed + 60 * minutes,
            started=self.started - elapsed,
            learning_rate=config.optimizer.learning_rate,
            schedule=self.schedule,
            stages=tuple(stages),
            ema_decay=config.optimizer.ema_decay,
            dtype=dtype,
        )

    def _loggers(self) -> Loggers:
        loggers: list = [JsonlLogger(self.run_dir / "metrics.jsonl")]
        logger = self.config.logger
        if logger.wandb != "disabled":
            loggers.append(WandbLogger(logger.wandb, logger.wandb_project, self.run_dir, dataclasses.asdict(self.config)))
        return Loggers(loggers)

    def _epochs(self) -> None:
        with TrainingProgress(self.config.logger.progress, self.config.trainer.max_epochs) as progress_bar:
            while not self._is_over():
                record = self._epoch(progress_bar)
                self.loggers.log(record["step"], {name: value for name, value in record.items() if value is not None})
                progress_bar.epoch_line(record | {"is_best": self.progress.best_epoch == self.progress.epoch})
                if time.monotonic() - self._last_save > 60 * self.config.trainer.checkpoint_minutes:
                    self._save()
        self._save()

    def _is_over(self) -> bool:
        # One epoch there is always, if only of one step: without it there would be no model.
        if self.progress.epoch and self.plan.progress(self.progress.epoch) >= 1:
            return True
        patience = self.config.trainer.patience
        if patience is not None and self.progress.epoch - self.progress.best_epoch > patience:
            _LOG.info("early stop: no better validation loss for %d epochs", patience)
            return True
        return False

    def _epoch(self, progress_bar: TrainingProgress) -> dict[str, Any]:
        """Train one epoch, validate, remember the best parameters; the record of `metrics.jsonl`."""
        epoch = self.progress.epoch
        num_batches = self.train_loader.num_batches
        progress_bar.start_epoch(epoch + 1, num_batches)
        self.state, summary = train_epoch(
            self.state, self.train_loader.epoch(epoch), self.train_step, self.plan, epoch, num_batches, self._reporter(progress_bar)
        )
        valid_start = time.monotonic()
        compiled_before = self.eval_step.compile_seconds
        sums = evaluate(self.eval_step, self.state.ema_params, self.eval_loaders["valid"].epoch(0))
        errors = summarize(sums)
        valid_compile = self.eval_step.compile_seconds - compiled_before
        valid_seconds = time.monotonic() - valid_start - valid_compile
        done = min(self.plan.progress(epoch + 1), 1.0)
        stage = self.plan.stage(done)
        valid_loss = float(loss_from_sums(sums, self.plan.stages[stage].weights))
        self._remember(valid_loss, stage)
        self.schedule.observe(valid_loss)
        return _record(self.progress.epoch, int(self.state.step), summary, valid_loss, errors) | {
            "compile_seconds": summary.compile_seconds + valid_compile,
            "valid_seconds": valid_seconds,
            "total_seconds": time.monotonic() - self.plan.started,
            "stage": stage + 1,
            "peak_memory_mb": peak_memory_mb(self.device),
        }

    def _reporter(self, progress_bar: TrainingProgress) -> Report:
        """The progress bar's; the first time it says how long the command took to get there."""

        def first(progress: float, loss: float, num_steps: int) -> None:
            if self.first_step_seconds is None:
                self.first_step_seconds = time.monotonic() - self.started
                compiling = self.train_step.compile_seconds
                _LOG.info("first step after %.1f s, of which %.1f s compiled it", self.first_step_seconds, compiling)
            progress_bar.update(progress, loss, num_steps)

        return first

    def _remember(self, valid_loss: float, stage: int) -> None:
        """Count the epoch; keep its averaged parameters if they are the best of the stage."""
        progress = self.progress
        progress.epoch += 1
        if stage != progress.stage or progress.best_loss is None:
            progress.stage, progress.best_loss = stage, math.inf
        if valid_loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = valid_loss, progress.epoch
            self.best_params = jax.tree.map(jnp.copy, self.state.ema_params)

    def _save(self) -> None:
        self.progress.elapsed_seconds = time.monotonic() - self.plan.started
        self.progress.schedule = dataclasses.asdict(self.schedule)
        self.checkpoints.save(self.state, self.best_params, self.progress)
        save_model(self.run_dir / "model", self._best_model(), {"epoch": self.progress.best_epoch})
        self._last_save = time.monotonic()

    def _best_model(self) -> Model:
        return dataclasses.replace(self.model, params=self.best_params)

    def _finish(self) -> dict[str, Any]:
        """Test errors, plots and `results.json`."""
        records = plots.read_metrics(self.run_dir / "metrics.jsonl")  # also of the sessions before this one
        errors = {"valid": summarize(evaluate(self.eval_step, self.best_params, self.eval_loaders["valid"].epoch(0)))}
        errors["valid"]["num_configs"] = len(self.datasets.valid)
        tests = {}
        for path, graphs in self.datasets.test.items():
            tests[path] = summarize(evaluate(self.eval_step, self.best_params, self.eval_loaders[path].epoch(0))) | {"num_configs": len(graphs)}
        steady = [record for record in records[1:] if record.get("step_seconds") is not None] or records
        results = {
            "tensor_product": dataclasses.asdict(self.config.tensor_product),
            "num_parameters": self.model.num_parameters,
            "flops_per_step": self.train_step.flops(),
            "num_compilations": self.train_step.num_compilations,
            "epochs": self.progress.epoch,
            "steps": int(self.state.step),
            "epoch_seconds": _median(record["epoch_seconds"] for record in steady),
            "step_seconds": _median(record.get("step_seconds") for record in steady),
            "compile_seconds": sum(record["compile_seconds"] for record in records),
            "first_step_seconds": self.first_step_seconds,
            "total_seconds": time.monotonic() - self.plan.started,
            "peak_memory_mb": peak_memory_mb(self.device),
            "best_epoch": self.progress.best_epoch,
            "valid": errors["valid"],
            "test": tests,
            "environment": self.environment,
        }
        save_model(self.run_dir / "model", self._best_model(), {"epoch": self.progress.best_epoch, "valid": errors["valid"], "test": tests})
        (self.run_dir / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
        self._draw()
        return results

    def _draw(self) -> None:
        folder = self.run_dir / "plots"
        folder.mkdir(exist_ok=True)
        plots.learning_curves(plots.read_metrics(self.run_dir / "metrics.jsonl"), folder / "learning_curves.png")
        names = short_names(self.eval_loaders)
        for name, graphs in {"valid": self.datasets.valid, **self.datasets.test}.items():
            predicted = predictions(self.eval_step, self.best_params, graphs, self.eval_loaders[name].epoch(0))
            draw_parity(graphs, predicted, names[name], folder)


def _record(epoch: int, step: int, summary: EpochSummary, valid_loss: float, errors: dict[str, float]) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "step": step,
        "learning_rate": summary.learning_rate,
        "train_loss": summary.loss,
        "valid_loss": valid_loss,
        **errors,
        "epoch_seconds": summary.seconds - summary.compile_seconds,
        "step_seconds": summary.step_seconds,
    }


def _product_name(site: Any) -> str:
    return site if isinstance(site, str) else str(site["name"])


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def make_run_dir(path: str, resume: bool) -> Path:
    """Make the run directory; one that already holds a run is only accepted to resume it.

    Raises:
        InputError: it holds a run, or cannot be made or written.
    """
    run_dir = Path(path).expanduser().absolute()
    if (run_dir / "config.yaml").exists() and not resume:
        raise InputError(f"run_dir={path}: already holds a run; continue it with trainer.resume=auto, or choose another run_dir")
    try:
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"run_dir={path}: cannot be made or written ({error.strerror})") from error
    return run_dir
