"""A whole training: data → model → epochs → test errors, all of it kept in a run directory."""

import dataclasses
import logging
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mace_tp.config import Config, build_device, build_dtype, build_loss_weights, build_schedule
from mace_tp.config_ranges import check_config
from mace_tp.environment import describe, peak_memory_mb
from mace_tp.errors import InputError, TrainingError
from mace_tp.loggers import JsonlLogger, Logger, Loggers, TrainingProgress, WandbLogger
from mace_tp.metrics import loss_from_sums, summarize
from mace_tp.preparation import Setup, prepare
from mace_tp.results import draw, final_outcomes, write_results
from mace_tp.saved_model import save_model
from mace_tp.training.checkpoint import Checkpoints, Progress
from mace_tp.training.evaluate import evaluate
from mace_tp.training.loop import EpochSummary, Plan, Report, Stage, train_epoch
from mace_tp.training.state import Params, TrainState, initial_state

_LOG = logging.getLogger("mace_tp")


def train(config: Config, run_dir: Path, started: float | None = None) -> dict[str, Any]:
    """Train as configured and return what `results.json` holds.

    Args:
        config: the whole configuration.
        run_dir: exists; receives everything.
        started: time.monotonic() when the command began, from which `trainer.max_minutes` counts; now, if None.

    Raises:
        InputError: something that the user gave cannot be used; raised before the training starts.
    """
    check_config(config)
    dtype = build_dtype(config)
    device = build_device(config)
    environment = describe(device, config.dtype)
    _LOG.info(" · ".join(f"{name} {value}" for name, value in environment.items()))
    with jax.default_device(device):
        training = _Training(config, run_dir, time.monotonic() if started is None else started, prepare(config, dtype), dtype)
        try:
            training.run_epochs()
            return _finish(training, environment, peak_memory_mb(device))
        finally:
            training.close()


def _finish(training: "_Training", environment: dict[str, str | int], memory_mb: float) -> dict[str, Any]:
    config, setup, run_dir, progress = training.config, training.setup, training.run_dir, training.progress
    outcomes = final_outcomes(setup, training.best_params)
    errors = {name: outcome.errors for name, outcome in outcomes.items()}
    training.save_model({"errors": errors})
    totals = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "steps": int(training.state.step),
        "first_step_seconds": training.first_step_seconds,
        "total_seconds": training.total_seconds(),
        "peak_memory_mb": memory_mb,
        "environment": environment,
    }
    results = write_results(run_dir, config, setup, errors, totals)
    draw(run_dir, outcomes)
    return results


class _Training:
    """What changes in the course of a training, and what it writes on the way."""

    def __init__(self, config: Config, run_dir: Path, started: float, setup: Setup, dtype: jnp.dtype) -> None:
        self.config, self.run_dir, self.started, self.setup = config, run_dir, started, setup
        self.checkpoints = Checkpoints(run_dir / "checkpoints")
        self.state: TrainState = initial_state(setup.model.params, setup.optimizer)
        self.best_params: Params = jax.tree.map(jnp.copy, setup.model.params)
        self.progress = Progress()
        self.schedule = build_schedule(config.optimizer)
        self._resume()
        self._elapsed_before = self.progress.elapsed_seconds
        self.plan = self._plan(dtype)
        self._compile()
        self.loggers = self._loggers()
        self._last_save = time.monotonic()
        self.first_step_seconds: float | None = None

    def run_epochs(self) -> None:
        """Train until the configured end; the last state is saved."""
        with TrainingProgress(self.config.logger.progress, self.config.trainer.max_epochs) as progress_bar:
            while not self._is_over():
                record = self._epoch(progress_bar)
                self.loggers.log(record["step"], {name: value for name, value in record.items() if value is not None})
                progress_bar.epoch_line(record | {"is_best": self.progress.best_epoch == self.progress.epoch})
                if time.monotonic() - self._last_save > 60 * self.config.trainer.checkpoint_minutes:
                    self._save()
        self._save()

    def total_seconds(self) -> float:
        """Wall-clock since the command began, with that of the sessions before a resumption."""
        return self._elapsed_before + time.monotonic() - self.started

    def save_model(self, notes: dict[str, Any]) -> None:
        """Write the best model so far to `model/`."""
        best = dataclasses.replace(self.setup.model, params=self.best_params)
        save_model(self.run_dir / "model", best, {"epoch": self.progress.best_epoch, **notes})

    def close(self) -> None:
        self.checkpoints.close()
        self.loggers.finish()

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
            begun=time.monotonic(),
            deadline=None if minutes is None else self.started - elapsed + 60 * minutes,
            start=self.progress.by_clock,
            learning_rate=config.optimizer.learning_rate,
            schedule=self.schedule,
            stages=tuple(stages),
            ema_decay=config.optimizer.ema_decay,
            dtype=dtype,
        )

    def _compile(self) -> None:
        """Compile the step for the first batch; the learning rate's clock begins after it."""
        batches = self.setup.train_loader.epoch(self.progress.epoch)
        self.setup.train_step.compile(self.state, next(batches), self.plan.control(0.0))
        self.plan = dataclasses.replace(self.plan, begun=time.monotonic())

    def _loggers(self) -> Loggers:
        loggers: list[Logger] = [JsonlLogger(self.run_dir / "metrics.jsonl")]
        logger = self.config.logger
        if logger.wandb != "disabled":
            loggers.append(WandbLogger(logger.wandb, logger.wandb_project, self.run_dir, dataclasses.asdict(self.config)))
        return Loggers(loggers)

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
        num_batches = self.setup.train_loader.num_batches
        progress_bar.start_epoch(epoch + 1, num_batches)
        batches, report = self.setup.train_loader.epoch(epoch), self._reporter(progress_bar)
        self.state, summary = train_epoch(self.state, batches, self.setup.train_step, self.plan, epoch, num_batches, report)
        valid_start = time.monotonic()
        compiled_before = self.setup.eval_step.compile_seconds
        sums = evaluate(self.setup.eval_step, self.state.ema_params, self.setup.eval_loaders["valid"].epoch(0))
        errors = summarize(sums)
        valid_compile = self.setup.eval_step.compile_seconds - compiled_before
        valid_seconds = time.monotonic() - valid_start - valid_compile
        done = min(self.plan.progress(epoch + 1), 1.0)
        stage = self.plan.stage(done)
        valid_loss = float(loss_from_sums(sums, self.plan.stages[stage].weights))
        if not math.isfinite(valid_loss):
            kept = (
                f"the best model, of epoch {self.progress.best_epoch}, is kept" if self.progress.best_epoch else "there is no model to keep"
            )
            raise TrainingError(
                f"the validation loss of epoch {epoch + 1} is {valid_loss}: the training diverged; {kept}; lower optimizer.learning_rate"
            )
        self._remember(valid_loss, stage)
        self.schedule.observe(valid_loss)
        return _record(self.progress.epoch, int(self.state.step), summary, valid_loss, errors) | {
            "compile_seconds": summary.compile_seconds + valid_compile,
            "valid_seconds": valid_seconds,
            "total_seconds": self.total_seconds(),
            "stage": stage + 1,
            "peak_memory_mb": peak_memory_mb(next(iter(self.state.step.devices()))),
        }

    def _reporter(self, progress_bar: TrainingProgress) -> Report:
        """The progress bar's; the first time it says how long the command took to get there."""

        def first(progress: float, loss: float, num_steps: int) -> None:
            if self.first_step_seconds is None:
                self.first_step_seconds = time.monotonic() - self.started
                compiling = self.setup.train_step.compile_seconds
                _LOG.info("first step after %.1f s, of which %.1f s compiled it", self.first_step_seconds, compiling)
            progress_bar.update(progress, loss, num_steps)

        return first

    def _remember(self, valid_loss: float, stage: int) -> None:
        """Count the epoch; keep its averaged parameters if they are the best of the stage."""
        progress = self.progress
        progress.epoch += 1
        if stage != progress.stage or progress.best_loss is None:
            progress.stage, progress.best_loss = stage, math.inf
            self.schedule.restart()
        if valid_loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = valid_loss, progress.epoch
            self.best_params = jax.tree.map(jnp.copy, self.state.ema_params)

    def _save(self) -> None:
        self.progress.elapsed_seconds = self.total_seconds()
        self.progress.by_clock = min(self.plan.by_clock(), 1.0)
        self.progress.schedule = dataclasses.asdict(self.schedule)
        self.checkpoints.save(self.state, self.best_params, self.progress)
        self.save_model({})
        self._last_save = time.monotonic()


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
