"""A whole training, from top to bottom: data → model → epochs → test errors. Its files are written into a run directory."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mace_tp.config import Config
from mace_tp.data.writers import write_graphs
from mace_tp.errors import TrainingError
from mace_tp.run_directory import CHECKPOINTS, CONFIG, METRICS, NOT_FINITE, RESULTS, write_config, write_results
from mace_tp.runtime.compilation import counted_compilations
from mace_tp.runtime.devices import find_device
from mace_tp.runtime.environment import peak_memory_mb
from mace_tp.training.checkpoint import Checkpoints
from mace_tp.training.clock import Clock
from mace_tp.training.fit import Report, fit
from mace_tp.training.loggers import JsonlLogger, Logger, Loggers, TrainingProgress, WandbLogger
from mace_tp.training.model_card import describe_data
from mace_tp.training.preparation import Setup, compile_step, computing, prepare
from mace_tp.training.progress import Epoch, Progress
from mace_tp.training.results import collect_results, draw, epoch_record, final_outcomes
from mace_tp.training.resume import begin, judge_best_anew
from mace_tp.training.saving import Saver
from mace_tp.training.schedule import build_timetable
from mace_tp.training.signals import stop_on_signals
from mace_tp.training.state import TrainState, copied
from mace_tp.training.stopping import describe_end, is_over
from mace_tp.training.validation import validate

_LOG = logging.getLogger("mace_tp")


def train(config: Config, run_dir: Path, started: float | None = None) -> dict[str, Any]:
    """Train as configured and return the contents of `results.json`.

    Args:
        config: the whole configuration.
        run_dir: exists; receives all files.
        started: time.monotonic() when the command began, from which `total_seconds` counts; now, if None.

    Raises:
        InputError: something that the user gave cannot be used; raised before the training starts.
        TrainingError: the training cannot go on: numbers that are not finite, a disk that is full.
        TrainingStopped: a signal ended it after a step; `trainer.resume=auto` continues it from there.
    """
    started = time.monotonic() if started is None else started
    with counted_compilations() as compilations, computing(config) as environment, contextlib.ExitStack() as stack:
        setup = prepare(config, environment, run_dir)
        config, trainer, device = setup.config, setup.config.trainer, find_device(config.device)

        stack.enter_context(_errors_of_disk(run_dir))
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(run_dir / CHECKPOINTS, setup.provenance)))
        state, best_params, progress = begin(setup, checkpoints)
        if progress.num_batches:
            within = f" and {progress.batch} batches of the next" if progress.batch else ""
            _LOG.info("resume: continuing after epoch %d%s", progress.epoch, within)
        write_config(run_dir / CONFIG, dataclasses.asdict(config))
        compile_step(setup, state, progress.epoch)

        clock = Clock(started, compilations, progress)  # from here on time counts against trainer.max_minutes
        timetable = build_timetable(config, clock.training_seconds, progress)
        judge_best_anew(setup, timetable, best_params, progress)
        loggers = _open_loggers(config, run_dir, progress.epoch)
        stack.callback(loggers.finish)
        saver = Saver(run_dir, setup, checkpoints, timetable, clock)

        has_ended = is_over(trainer, timetable, progress)
        _LOG.info(f"nothing is left to train after epoch {progress.epoch}" if has_ended else describe_end(trainer, timetable, progress))
        with stop_on_signals() as stop, TrainingProgress(config.logger.progress, trainer.max_epochs) as bar:
            if not has_ended:
                _begin_epoch(setup, progress, bar)
            epochs = fit(
                state, setup.train_loader, setup.train_step, timetable, progress.next_epoch(), _reporter(bar, clock),
                should_pause=lambda: bool(stop) or saver.is_due_within_epoch(),
            )  # fmt: skip
            for state, epoch in [] if has_ended or stop else epochs:
                progress.count(epoch)
                if epoch.has_failed:
                    saver.save(state, best_params, progress)
                    checkpoints.wait()
                    raise _not_finite(run_dir, setup, epoch, progress)
                if not (epoch.is_complete or stop):
                    saver.save(state, best_params, progress)
                    continue
                if epoch.num_skipped:
                    why = "because loss or gradient were not finite"
                    _LOG.warning("epoch %d: %d updates skipped, %s", epoch.index + 1, epoch.num_skipped, why)
                if stop:
                    break

                validation = validate(setup, state.ema_params, stop)
                if stop:  # the validation may be incomplete; the run that resumes does it again
                    break
                stage = timetable.stage(timetable.progress(progress.epoch + 1))
                valid_loss = validation.loss(timetable.stages[stage].weights)
                if not math.isfinite(valid_loss):
                    if progress.best_epoch:
                        saver.save_model(best_params, progress, {})
                    raise _diverged(valid_loss, epoch, progress)
                if progress.begins(stage):
                    timetable.schedule.restart()
                if progress.complete_epoch(valid_loss, stage):
                    best_params = copied(state.ema_params)
                timetable.schedule.observe(valid_loss)

                record = epoch_record(progress.epoch, int(state.step), epoch, valid_loss, validation.errors)
                record |= {
                    "compile_seconds": epoch.compile_seconds + validation.compile_seconds,
                    "valid_seconds": validation.seconds,
                    "total_seconds": clock.total_seconds(),
                    "stage": stage + 1,
                    "peak_memory_mb": peak_memory_mb(device),
                }
                loggers.log(record["step"], {name: value for name, value in record.items() if value is not None})
                bar.epoch_line(record | {"is_best": progress.best_epoch == progress.epoch})
                saver.save_after_epoch(state, best_params, progress)
                if is_over(trainer, timetable, progress) or stop:
                    break
                _begin_epoch(setup, progress, bar)
            saver.save(state, best_params, progress)
            checkpoints.wait()
            stop.raise_if_set()

        totals = _totals(state, progress, clock, peak_memory_mb(device))
        outcomes = final_outcomes(setup, best_params)
        errors = {name: outcome.errors for name, outcome in outcomes.items()}
        saver.save_model(best_params, progress, errors)
        times = {"compile_seconds": clock.compile_seconds(), "total_seconds": clock.total_seconds()}
        results = collect_results(run_dir, setup, errors, totals | times | {"environment": environment})
        write_results(run_dir / RESULTS, results)
        draw(run_dir, outcomes)
        return results


def _totals(state: TrainState, progress: Progress, clock: Clock, memory_mb: float) -> dict[str, Any]:
    """Counts of the whole training for `results.json`."""
    return {
        "epochs": progress.epoch,
        "num_skipped": progress.num_skipped,
        "best_epoch": progress.best_epoch,
        "steps": int(state.step),
        "first_step_seconds": clock.first_step_seconds,
        "peak_memory_mb": memory_mb,
    }


@contextlib.contextmanager
def _errors_of_disk(run_dir: Path) -> Iterator[None]:
    """Report an error of the operating system in one line."""
    try:
        yield
    except OSError as error:
        path = error.filename or run_dir
        raise TrainingError(f"{path}: cannot be written ({error.strerror}); checkpoints that are complete are kept") from error


def _open_loggers(config: Config, run_dir: Path, last_epoch: int) -> Loggers:
    """The loggers of the records: `metrics.jsonl`, without records after the last epoch of a resumed run, and wandb if wanted."""
    loggers: list[Logger] = [JsonlLogger(run_dir / METRICS, last_epoch)]
    mode = config.logger.wandb
    if mode in ("offline", "online"):
        loggers.append(WandbLogger(mode, config.logger.wandb_project, run_dir, dataclasses.asdict(config)))
    return Loggers(loggers)


def _reporter(bar: TrainingProgress, clock: Clock) -> Report:
    """Report windows of steps to the progress bar, and the first one to the log."""

    def report(fraction: float, loss: float, num_batches: int) -> None:
        clock.note_step()
        bar.update(fraction, loss, num_batches)

    return report


def _begin_epoch(setup: Setup, progress: Progress, bar: TrainingProgress) -> None:
    """Note the data that the model is trained on, and show the epoch in the progress bar."""
    if (data := describe_data(setup)) not in progress.trained_on[-1:]:
        progress.trained_on.append(data)
    bar.start_epoch(progress.epoch + 1, setup.train_loader.num_batches, progress.passed_over)


def _not_finite(run_dir: Path, setup: Setup, epoch: Epoch, progress: Progress) -> TrainingError:
    """Write the configurations of the skipped batches to a file; the error names it."""
    batches, path = epoch.skipped_in_a_row, run_dir / NOT_FINITE
    graphs = {id(graph): graph for batch in batches for graph in setup.train_loader.members(*batch)}
    write_graphs(path, list(graphs.values()), setup.datasets.statistics)
    return TrainingError(
        f"epoch {epoch.index + 1}: {len(batches)} updates in a row were not finite; their configurations are in {path}; "
        f"{_best(progress)}; look at their labels, or lower optimizer.learning_rate"
    )


def _diverged(valid_loss: float, epoch: Epoch, progress: Progress) -> TrainingError:
    return TrainingError(
        f"the validation loss of epoch {epoch.index + 1} is {valid_loss}: the training diverged; {_best(progress)}; "
        "lower optimizer.learning_rate"
    )


def _best(progress: Progress) -> str:
    return f"the best model, of epoch {progress.best_epoch}, is kept" if progress.best_epoch else "there is no model to keep"
