"""The training loop: one compiled update after another. The caller logs, validates, saves and decides when it ends."""

import time
from collections.abc import Callable, Iterator

import jax

from mace_tp.data.batching import BatchLoader
from mace_tp.model.programs import CompiledStep
from mace_tp.training.progress import Epoch
from mace_tp.training.schedule import Timetable
from mace_tp.training.state import TrainState

# Steps, or seconds of slow steps, between synchronizations with the device: often enough for a live progress bar and a
# deadline, rarely enough to cost nothing.
_WINDOW = 10
_WINDOW_SECONDS = 1.0

Report = Callable[[float, float, int], None]
"""(progress, recent loss, batches done in this epoch) → None, for a progress bar."""


def fit(
    state: TrainState, loader: BatchLoader, train_step: CompiledStep, timetable: Timetable, epoch: Epoch, report: Report,
    should_pause: Callable[[], bool],
) -> Iterator[tuple[TrainState, Epoch]]:  # fmt: skip
    """Train epoch after epoch without end; yield the state after every epoch, and in the middle of one at a pause.

    Args:
        state: the current state. Every step consumes the state before it, also one that was yielded.
        loader: of the training set.
        train_step: the compiled update, (state, batch, control) → (state, loss).
        timetable: learning rate and loss weights by progress. When its time is over, an epoch ends early, but has one step at least.
        epoch: the first epoch; its batches that are already done are skipped.
        report: called after every window of steps.
        should_pause: called after every step; if it returns true, the loop yields. The loop also pauses after too many updates that were
            not finite (`Epoch.has_failed`).

    Yields:
        The state, and the epoch as far as it is done.
    """
    while True:
        first, num_batches = epoch.num_batches, loader.num_batches
        window = _Window(train_step, epoch)
        control = timetable.control(_middle(timetable, epoch.index, max(first - 1, 0), num_batches))
        for number, batch in enumerate(loader.epoch(epoch.index, first), first):
            progress = timetable.progress(epoch.index + number / num_batches)
            if progress >= 1 and number > first:
                break
            control = timetable.control(_middle(timetable, epoch.index, number, num_batches))
            state, loss = train_step(state, batch, control)
            if window.add(loss):
                window.close()
                report(progress, epoch.last_loss, epoch.num_batches)
            if epoch.has_failed or should_pause():
                window.close()
                epoch.learning_rate = float(control.learning_rate)
                if number + 1 < num_batches and timetable.progress(epoch.index + (number + 1) / num_batches) < 1:
                    yield state, epoch
                    window.restart()
        window.close()
        epoch.learning_rate, epoch.is_complete = float(control.learning_rate), True
        yield state, epoch
        epoch = Epoch(epoch.index + 1, skipped_in_a_row=list(epoch.skipped_in_a_row))


def _middle(timetable: Timetable, epoch: int, number: int, num_batches: int) -> float:
    """Progress in the middle of a step of an epoch; both are counted from 0."""
    return timetable.middle(epoch + number / num_batches, epoch + (number + 1) / num_batches)


class _Window:
    """A few steps between two synchronizations with the device, and their time."""

    def __init__(self, train_step: CompiledStep, epoch: Epoch) -> None:
        self._step, self._epoch = train_step, epoch
        self._losses: list[jax.Array] = []
        self._limit = 1  # steps; a first step is reported at once
        self.restart()

    def restart(self) -> None:
        """Begin the time of the window now."""
        self._start, self._cpu_start, self._compiled = time.monotonic(), time.process_time(), self._step.compile_seconds

    def add(self, loss: jax.Array) -> bool:
        """Add a step; return whether the window is full, which it also is after a compilation."""
        self._losses.append(loss)
        return len(self._losses) >= self._limit or self._step.compile_seconds != self._compiled

    def close(self) -> None:
        """Wait for the device, add losses and times to the epoch, and begin the next window. Compilations spoil the time per step."""
        jax.block_until_ready(self._losses[-1:])
        seconds, cpu_seconds = time.monotonic() - self._start, time.process_time() - self._cpu_start
        compile_seconds = self._step.compile_seconds - self._compiled
        self.restart()
        self._epoch.seconds += seconds
        self._epoch.compile_seconds += compile_seconds
        if self._losses and not compile_seconds:
            per_step = seconds / len(self._losses)
            self._epoch.window_seconds.append(per_step)
            self._epoch.window_cpu_seconds.append(cpu_seconds / len(self._losses))
            self._limit = max(1, min(_WINDOW, int(_WINDOW_SECONDS / per_step)))
        for loss in self._losses:
            self._epoch.add(float(loss))
        self._losses.clear()
