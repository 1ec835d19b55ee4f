"""The epochs of a training: what changes in their course, and what is written on the way."""

import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mace_tp.config import Config
from mace_tp.data.batching import Bucket
from mace_tp.data.writers import write_graphs
from mace_tp.errors import InputError, TrainingError
from mace_tp.evaluation.batches import evaluate
from mace_tp.evaluation.metrics import summarize
from mace_tp.graph import GraphBatch
from mace_tp.model.parameters import Params
from mace_tp.model.saved_model import save_model
from mace_tp.run_directory import write_config
from mace_tp.runtime.compilation import CompileClock, Stopwatch
from mace_tp.runtime.devices import set_dtype
from mace_tp.runtime.environment import peak_memory_mb
from mace_tp.training.checkpoint import Checkpoints, Progress
from mace_tp.training.fine_tuning import started_from
from mace_tp.training.loggers import JsonlLogger, Logger, Loggers, TrainingProgress, WandbLogger
from mace_tp.training.loop import EpochSummary, Plan, Report, Skips, build_stages, train_epoch
from mace_tp.training.loss import loss_from_sums
from mace_tp.training.model_card import describe_data, describe_data_before, write_card
from mace_tp.training.optimizer import build_schedule, with_memory
from mace_tp.training.preparation import Setup
from mace_tp.training.provenance import batches_are_same, losses_compare, require_same
from mace_tp.training.results import epoch_record
from mace_tp.training.signals import StopRequest, stop_on_signals
from mace_tp.training.state import TrainState, copied, hold_frozen, initial_state

_LOG = logging.getLogger("mace_tp")
# Least time between checkpoints within an epoch: each waits for the device.
_MINUTES_WITHIN_EPOCH = 1.0


class Session:
    """What changes in the course of a training, and what it writes on the way."""

    def __init__(
        self, config: Config, run_dir: Path, started: float, setup: Setup, origin: dict[str, Any], compilations: CompileClock
    ) -> None:
        self.config, self.run_dir, self.started, self.setup, self.origin = config, run_dir, started, setup, origin
        self._compilations = compilations
        self.checkpoints = Checkpoints(run_dir / "checkpoints", origin)
        self.state: TrainState = initial_state(setup.model.params, setup.optimizer)
        self.best_params: Params = copied(setup.model.params)
        self.progress = Progress()
        self.schedule = build_schedule(config.optimizer)
        best_compares = self._resume()
        self._start()
        write_config(run_dir / "config.yaml", dataclasses.asdict(config))
        self.skips = Skips(self.progress.num_skipped, map(tuple, self.progress.skipped_in_a_row))
        self._elapsed_before, self._compiled_before = self.progress.elapsed_seconds, self.progress.compile_seconds
        self.plan = self._plan(set_dtype(config.dtype))
        self._compile()
        self._stopwatch = Stopwatch(compilations, self.progress.training_seconds or 0.0)
        self._judge_best_anew(best_compares)
        self.loggers = self._loggers()
        self._last_save = time.monotonic()
        self.first_step_seconds: float | None = None

    def run_epochs(self) -> None:
        """Train until the configured end or a signal; the last state is saved."""
        trainer = self.config.trainer
        is_over = self._is_over()
        _LOG.info(f"nothing is left to train after epoch {self.progress.epoch}" if is_over else self._until())
        with stop_on_signals() as stop, TrainingProgress(self.config.logger.progress, trainer.max_epochs) as progress_bar:
            while not stop and not is_over:
                record = self._epoch(progress_bar, stop)
                if record is None:
                    break
                self.loggers.log(record["step"], {name: value for name, value in record.items() if value is not None})
                progress_bar.epoch_line(record | {"is_best": self.progress.best_epoch == self.progress.epoch})
                is_kept = trainer.keep_every is not None and self.progress.epoch % trainer.keep_every == 0
                if is_kept:
                    self.progress.kept.append(self.progress.num_batches)
                if is_kept or self._save_is_due(trainer.checkpoint_minutes):
                    self._save()
                is_over = self._is_over()
            self._save()
            self.checkpoints.wait()
            stop.raise_if_set()

    def total_seconds(self) -> float:
        """Wall-clock since the command began, with that of the sessions before a resumption."""
        return self._elapsed_before + time.monotonic() - self.started

    def training_seconds(self) -> float:
        """Time of updates, validations and checkpoints of all sessions; reading of the data and compilation are not in it."""
        return self._stopwatch.seconds()

    def compile_seconds(self) -> float:
        """Time of all compilations since the command began, with those of the sessions before a resumption."""
        return self._compiled_before + self._compilations.seconds

    def totals(self) -> dict[str, Any]:
        """What `results.json` holds of the whole training, as far as the session knows it."""
        return {
            "epochs": self.progress.epoch,
            "num_skipped": self.skips.count,
            "best_epoch": self.progress.best_epoch,
            "steps": int(self.state.step),
            "first_step_seconds": self.first_step_seconds,
            "compile_seconds": self.compile_seconds(),
            "total_seconds": self.total_seconds(),
        }

    def save_model(self, errors: dict[str, dict[str, float]]) -> None:
        """Write the best model so far to `model/`, and its card; without errors, where they have not been measured."""
        folder, best = self.run_dir / "model", dataclasses.replace(self.setup.model, params=self.best_params)
        save_model(folder, best, {"epoch": self.progress.best_epoch, "errors": errors})
        totals = self.totals() | {"trained_on": self.progress.trained_on}
        write_card(folder, self.setup, self.config, self.origin["environment"], totals, errors)

    def close(self) -> None:
        try:
            self.checkpoints.close()
        finally:
            self.loggers.finish()

    def _resume(self) -> bool:
        """Take the last checkpoint, if that is wanted; whether its best validation loss can be compared with those to come."""
        resume = self.config.trainer.resume
        if resume is None:
            return True
        before = self.checkpoints.origin()
        changes = [] if before is None else require_same(before, self.origin, changes_are_wanted=resume == "anyway")
        try:
            restored = self.checkpoints.restore(self.state, self.best_params)
        except InputError as error:
            raise InputError("; ".join([f"trainer.resume={resume}: {error}", *changes])) from error
        if restored is None:
            _LOG.info("resume: no checkpoint in %s yet; starting from the beginning", self.run_dir)
            return True
        if before is None:
            _LOG.warning("resume: the checkpoint is of a version that kept neither configuration nor data; they are not compared")
        self.progress = restored.progress
        # Arrays that are not bound to a device, as in a new training: for others every step would be compiled anew.
        state, best_params = jax.device_get((restored.state, restored.best_params))
        self.state, self.best_params = jax.tree.map(jnp.asarray, (hold_frozen(state, self.setup.frozen), best_params))
        self.schedule = with_memory(self.schedule, self.progress.schedule)
        if self.progress.training_seconds is None:  # a checkpoint of a version that counted from the start of the command
            self.progress.training_seconds = self.progress.elapsed_seconds
        if before is not None and not self.progress.trained_on and before["data"]["training"] != self.origin["data"]["training"]:
            self.progress.trained_on = [describe_data_before(before)]  # a checkpoint of a version that did not keep it
        if before is None or batches_are_same(before, self.origin):
            self.setup.train_loader.buckets = [Bucket(*shape) for shape in self.progress.buckets] or self.setup.train_loader.buckets
        else:
            self._begin_epoch_anew()
        within = f" and {self.progress.batch} batches of the next" if self.progress.batch else ""
        _LOG.info("resume: continuing after epoch %d%s", self.progress.epoch, within)
        return before is not None and losses_compare(before, self.origin)

    def _begin_epoch_anew(self) -> None:
        """Discard a partly trained epoch, because its remaining batches would be different ones."""
        progress = self.progress
        if progress.batch:
            _LOG.info("resume: epoch %d begins anew, because its batches have changed; %d were done", progress.epoch + 1, progress.batch)
        progress.batch, progress.so_far, progress.skipped_in_a_row = 0, {}, []

    def _judge_best_anew(self, compares: bool) -> None:
        """Measure the kept best model anew where its loss is of other validation data, loss weights or settings than the next one.

        Loss weights also differ where a later end of the training leads back to stage one.
        """
        progress, before = self.progress, self.progress.best_loss
        stage = self.plan.stage(min(self.plan.progress(progress.epoch + 1), 1.0))
        # With a new stage every training compares afresh.
        if before is None or stage > progress.stage or (compares and stage == progress.stage):
            return
        progress.stage = stage
        sums = evaluate(self.setup.eval_step, self.best_params, self.setup.eval_loaders["valid"].epoch(0))
        loss = float(loss_from_sums(sums, self.plan.stages[stage].weights))
        progress.best_loss, progress.patience_from = loss if math.isfinite(loss) else math.inf, progress.epoch
        self.schedule.restart()
        _LOG.info(
            "resume: the validation data or the loss have changed: the kept best model, of epoch %d, had a validation loss of %.4g and now "
            "has %.4g, with which epochs to come are compared", progress.best_epoch, before, loss,
        )  # fmt: skip

    def _start(self) -> None:
        """Take the weights of another model, if there is one to start from; a training that goes on has its own."""
        path = self.config.model.init_from
        if path is not None and not self.progress.num_batches:
            params = started_from(path, self.setup.model, self.setup.frozen).params
            self.state, self.best_params = initial_state(params, self.setup.optimizer), copied(params)

    def _plan(self, dtype: jnp.dtype) -> Plan:
        config, minutes = self.config, self.config.trainer.max_minutes
        return Plan(
            max_epochs=config.trainer.max_epochs,
            max_seconds=None if minutes is None else 60 * minutes,
            seconds=self.training_seconds,
            learning_rate=config.optimizer.learning_rate,
            schedule=self.schedule,
            stages=build_stages(config.loss),
            ema_decay=config.optimizer.ema_decay,
            dtype=dtype,
            passed_over=self.progress.passed_over,
        )

    def _compile(self) -> None:
        """Compile the step for the first batch, before the time of the training begins."""
        batches = self.setup.train_loader.epoch(self.progress.epoch)
        self.setup.train_step.compile(self.state, next(batches), self.plan.control(0.0))

    def _loggers(self) -> Loggers:
        loggers: list[Logger] = [JsonlLogger(self.run_dir / "metrics.jsonl", self.progress.epoch)]
        logger = self.config.logger
        if logger.wandb != "disabled":
            loggers.append(WandbLogger(logger.wandb, logger.wandb_project, self.run_dir, dataclasses.asdict(self.config)))
        return Loggers(loggers)

    def _until(self) -> str:
        """A line that says when the training will end, and how much of it is done."""
        trainer, progress = self.config.trainer, self.progress
        left_out = f"={trainer.max_epochs}, {progress.passed_over} of them passed over" if progress.passed_over else ""
        ends = [f"after {trainer.max_epochs - progress.passed_over} epochs (trainer.max_epochs{left_out})"]
        done = [f"{progress.epoch} epochs"]
        if trainer.max_minutes is not None:
            ends.append(f"after {trainer.max_minutes:g} minutes without compilation (trainer.max_minutes)")
            done.append(f"{self.training_seconds() / 60:.1f} minutes")
        if trainer.patience is not None:
            in_stage = " of the last stage" if len(self.plan.stages) > 1 else ""
            ends.append(f"after {trainer.patience} epochs{in_stage} without a better validation loss (trainer.patience)")
        so_far = f"; done are {' and '.join(done)}" if progress.num_batches else ""
        return f"the training ends {' or '.join(ends)}{', whichever comes first' if len(ends) > 1 else ''}{so_far}"

    def _is_over(self) -> bool:
        """Whether the training is at its end; the reason is logged."""
        epoch, trainer = self.progress.epoch, self.config.trainer
        # One epoch there is always, if only of one step: without it there would be no model.
        if epoch and epoch + self.progress.passed_over >= trainer.max_epochs:
            passed_over = f", {self.progress.passed_over} of them passed over" if self.progress.passed_over else ""
            _LOG.info("the training ends after epoch %d: trainer.max_epochs=%d is reached%s", epoch, trainer.max_epochs, passed_over)
            return True
        if epoch and self.plan.by_clock() >= 1:
            counts = epoch, trainer.max_epochs - self.progress.passed_over, trainer.max_minutes
            _LOG.info("the training ends after epoch %d of %d: the %g minutes of trainer.max_minutes are over", *counts)
            return True
        return self._patience_is_over()

    def _patience_is_over(self) -> bool:
        """Whether too many epochs brought nothing better in the last stage; an earlier stage then gives way to the next one."""
        progress, patience, stages = self.progress, self.config.trainer.patience, self.plan.stages
        if patience is None or progress.epoch - max(progress.best_epoch, progress.patience_from) < patience:
            return False
        if self.plan.stage(self.plan.progress(progress.epoch)) > progress.stage:  # its first epoch is to come
            return False
        if progress.stage + 1 == len(stages):
            _LOG.info("early stop: no better validation loss for %d epochs", patience)
            return True
        start, max_epochs = stages[progress.stage + 1].start, self.plan.max_epochs
        first = next((epoch for epoch in range(progress.epoch, max_epochs) if epoch / max_epochs >= start), max_epochs - 1)
        progress.passed_over = first - progress.epoch
        self.plan = dataclasses.replace(self.plan, passed_over=progress.passed_over)
        _LOG.info(
            "stage two begins early: no better validation loss for %d epochs; %d epochs are passed over, at most %d are left", patience,
            progress.passed_over, max_epochs - first,
        )  # fmt: skip
        return False

    def _epoch(self, progress_bar: TrainingProgress, stop: StopRequest) -> dict[str, Any] | None:
        """Train one epoch, validate, remember the best parameters; the record of `metrics.jsonl`. None if it was stopped on the way."""
        epoch = self.progress.epoch
        summary = self._train(progress_bar, stop)
        if summary.num_skipped:
            _LOG.warning("epoch %d: %d updates skipped, for loss or gradient were not finite", epoch + 1, summary.num_skipped)
        valid_start = time.monotonic()
        compiled_before = self.setup.eval_step.compile_seconds
        sums = None if stop else evaluate(self.setup.eval_step, self.state.ema_params, self._validation(stop))
        if stop:  # a validation that is not complete is done again by the run that resumes
            return None
        errors = summarize(sums)
        valid_compile = self.setup.eval_step.compile_seconds - compiled_before
        valid_seconds = time.monotonic() - valid_start - valid_compile
        done = min(self.plan.progress(epoch + 1), 1.0)
        stage = self.plan.stage(done)
        valid_loss = float(loss_from_sums(sums, self.plan.stages[stage].weights))
        if not math.isfinite(valid_loss):
            if self.progress.best_epoch:
                self.save_model({})
            raise TrainingError(
                f"the validation loss of epoch {epoch + 1} is {valid_loss}: the training diverged; {self._kept()}; "
                "lower optimizer.learning_rate"
            )
        self._remember(valid_loss, stage)
        self.schedule.observe(valid_loss)
        return epoch_record(self.progress.epoch, int(self.state.step), summary, valid_loss, errors) | {
            "compile_seconds": summary.compile_seconds + valid_compile,
            "valid_seconds": valid_seconds,
            "total_seconds": self.total_seconds(),
            "stage": stage + 1,
            "peak_memory_mb": peak_memory_mb(next(iter(self.state.step.devices()))),
        }

    def _train(self, progress_bar: TrainingProgress, stop: StopRequest) -> EpochSummary:
        """The rest of the epoch, or up to a stop; checkpoints are written on the way where it takes long.

        Raises:
            TrainingError: too many updates were not finite.
        """
        progress, loader, setup = self.progress, self.setup.train_loader, self.setup
        if (data := describe_data(setup, self.config)) not in progress.trained_on[-1:]:
            progress.trained_on.append(data)
        progress_bar.start_epoch(progress.epoch + 1, loader.num_batches, progress.passed_over)
        summary = EpochSummary(num_batches=progress.batch, **progress.so_far)
        report = self._reporter(progress_bar)

        def should_stop() -> bool:
            return bool(stop) or self._save_is_due(max(self.config.trainer.checkpoint_minutes, _MINUTES_WITHIN_EPOCH))

        while True:
            self.state, summary = train_epoch(
                self.state, loader, setup.train_step, self.plan, progress.epoch, summary, self.skips, report, should_stop
            )
            progress.num_batches += summary.num_batches - progress.batch
            progress.batch = summary.num_batches
            progress.so_far = summary.sums()
            if self.skips.are_too_many:
                self._save()
                self.checkpoints.wait()
                raise self._not_finite()
            is_done = progress.batch >= loader.num_batches or self.plan.progress(progress.epoch + progress.batch / loader.num_batches) >= 1
            if stop or is_done:
                return summary
            self._save()

    def _validation(self, stop: StopRequest) -> Iterator[GraphBatch]:
        """The batches of the validation set, as far as no signal comes; one at least."""
        for batch in self.setup.eval_loaders["valid"].epoch(0):
            yield batch
            if stop:
                return

    def _not_finite(self) -> TrainingError:
        """Write the configurations of the batches at fault to a file, and say where it is."""
        batches = self.skips.in_a_row
        graphs = {id(graph): graph for batch in batches for graph in self.setup.train_loader.members(*batch)}
        path = self.run_dir / "not_finite.extxyz"
        write_graphs(path, list(graphs.values()), self.setup.datasets.statistics)
        return TrainingError(
            f"epoch {batches[-1][0] + 1}: {len(batches)} updates in a row were not finite; their configurations are in {path}; "
            f"{self._kept()}; look at their labels, or lower optimizer.learning_rate"
        )

    def _kept(self) -> str:
        best = self.progress.best_epoch
        return f"the best model, of epoch {best}, is kept" if best else "there is no model to keep"

    def _reporter(self, progress_bar: TrainingProgress) -> Report:
        """The progress bar's; the first time it says how long the command took to get there."""

        def first(progress: float, loss: float, num_steps: int) -> None:
            if self.first_step_seconds is None:
                self.first_step_seconds = time.monotonic() - self.started
                _LOG.info("first step after %.1f s, %.1f s of them compilation", self.first_step_seconds, self._compilations.seconds)
            progress_bar.update(progress, loss, num_steps)

        return first

    def _remember(self, valid_loss: float, stage: int) -> None:
        """Count the epoch; keep its averaged parameters if they are the best of the stage."""
        progress = self.progress
        progress.epoch, progress.batch, progress.so_far = progress.epoch + 1, 0, {}
        if stage != progress.stage or progress.best_loss is None:
            progress.stage, progress.best_loss = stage, math.inf
            self.schedule.restart()
        if valid_loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = valid_loss, progress.epoch
            self.best_params = copied(self.state.ema_params)

    def _save_is_due(self, minutes: float) -> bool:
        return time.monotonic() - self._last_save > 60 * minutes

    def _save(self) -> None:
        progress = self.progress
        progress.elapsed_seconds, progress.compile_seconds = self.total_seconds(), self.compile_seconds()
        progress.training_seconds = self.training_seconds()
        progress.schedule = dataclasses.asdict(self.schedule)
        progress.buckets = [list(dataclasses.astuple(bucket)) for bucket in self.setup.train_loader.buckets]
        progress.num_skipped, progress.skipped_in_a_row = self.skips.count, [list(batch) for batch in self.skips.in_a_row]
        self.checkpoints.save(self.state, self.best_params, progress)
        self.save_model({})
        self._last_save = time.monotonic()
