"""Saving of a training: a checkpoint to resume from, and beside it the best model so far with its card."""

import dataclasses
import time
from pathlib import Path

from mace_tp.model.parameters import Params
from mace_tp.model.saved_model import save_model
from mace_tp.run_directory import MODEL
from mace_tp.training.checkpoint import Checkpoints
from mace_tp.training.clock import Clock
from mace_tp.training.model_card import Errors, write_card
from mace_tp.training.preparation import Setup
from mace_tp.training.progress import Progress
from mace_tp.training.schedule import Timetable
from mace_tp.training.state import TrainState

# Least time between checkpoints within an epoch, because each of them waits for the device.
_MINUTES_WITHIN_EPOCH = 1.0


class Saver:
    """Saves a training when it is time to; the first interval begins with this object."""

    def __init__(self, run_dir: Path, setup: Setup, checkpoints: Checkpoints, timetable: Timetable, clock: Clock) -> None:
        self._model_dir, self._setup, self._checkpoints = run_dir / MODEL, setup, checkpoints
        self._timetable, self._clock = timetable, clock
        self._trainer = setup.config.trainer
        self._last = time.monotonic()

    def is_due_within_epoch(self) -> bool:
        return self._is_due(max(self._trainer.checkpoint_minutes, _MINUTES_WITHIN_EPOCH))

    def _is_due(self, minutes: float) -> bool:
        return time.monotonic() - self._last > 60 * minutes

    def save_after_epoch(self, state: TrainState, best_params: Params, progress: Progress) -> None:
        """Save if it is time to, or if the checkpoint of this epoch is one to keep."""
        keep_every = self._trainer.keep_every
        is_kept = keep_every is not None and progress.epoch % keep_every == 0
        if is_kept:
            progress.kept.append(progress.num_batches)
        if is_kept or self._is_due(self._trainer.checkpoint_minutes):
            self.save(state, best_params, progress)

    def save(self, state: TrainState, best_params: Params, progress: Progress) -> None:
        """Write a checkpoint in the background, and the best model so far."""
        self._clock.note(progress)
        progress.schedule = dataclasses.asdict(self._timetable.schedule)
        progress.buckets = [list(dataclasses.astuple(bucket)) for bucket in self._setup.train_loader.buckets]
        self._checkpoints.save(state, best_params, progress)
        self.save_model(best_params, progress, {})
        self._last = time.monotonic()

    def save_model(self, best_params: Params, progress: Progress, errors: Errors) -> None:
        """Write the best model so far and its card; without errors if they have not been measured."""
        self._clock.note(progress)
        best = dataclasses.replace(self._setup.model, params=best_params)
        save_model(self._model_dir, best, {"epoch": progress.best_epoch, "errors": errors})
        write_card(self._model_dir, self._setup, progress, errors)
