"""The training loop: epochs of compiled steps. What to do between epochs is the caller's business."""

import dataclasses
import functools
import math
import operator
import time
from collections.abc import Callable, Iterable

import jax
import numpy as np

from mace_tp.config import LossConfig
from mace_tp.data.batching import BatchLoader
from mace_tp.model.programs import CompiledStep
from mace_tp.training.loss import LossWeights, build_loss_weights
from mace_tp.training.optimizer import Schedule
from mace_tp.training.state import TrainState
from mace_tp.training.step import Control

# One synchronisation with the device for so many steps, or for so many seconds of slow ones: often enough for a live
# progress bar and a deadline, rarely enough to cost nothing.
_WINDOW = 10
_WINDOW_SECONDS = 1.0
# Updates that are not finite are skipped; after so many without one in between, nothing will mend itself.
_MAX_SKIPPED_IN_A_ROW = 10


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training with its own loss weights."""

    start: float  # progress at which it begins, in [0, 1]
    weights: LossWeights


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training does, as functions of its progress."""

    max_epochs: int
    max_seconds: float | None  # of training; None for no limit
    seconds: Callable[[], float]  # of training so far, compilation apart
    learning_rate: float
    schedule: Schedule
    stages: tuple[Stage, ...]  # ascending; the first starts at 0
    ema_decay: float
    dtype: np.dtype
    passed_over: int = 0  # epochs that were left out because nothing got better

    def progress(self, epochs: float) -> float:
        """Fraction of the training that is done, by epochs or by the clock, whichever is further."""
        return max((epochs + self.passed_over) / self.max_epochs, self.by_clock())

    def by_clock(self) -> float:
        """Fraction of the time that is over; zero without a limit."""
        return 0.0 if self.max_seconds is None else min(self.seconds() / self.max_seconds, 1.0)

    def middle(self, before: float, after: float) -> float:
        """Progress in the middle of a step, which sets its learning rate: that of its beginning is zero where a warm-up begins.

        Args:
            before: epochs that are done when it begins.
            after: epochs that are done when it ends.
        """
        begin = self.progress(before)
        if begin >= 1:  # the time is over; one step there is always, and alone it is the whole training
            return 1.0 if before else 0.5
        return (begin + min(self.progress(after), 1.0)) / 2

    def stage(self, progress: float) -> int:
        return max(i for i, stage in enumerate(self.stages) if progress >= stage.start)

    def control(self, progress: float) -> Control:
        rate = self.learning_rate * self.schedule(progress)
        control = Control(learning_rate=rate, weights=self.stages[self.stage(progress)].weights, ema_decay=self.ema_decay)
        # Arrays, not Python numbers: a step is compiled for the types that it is given.
        return jax.tree.map(lambda value: np.asarray(value, self.dtype), control)


@dataclasses.dataclass(frozen=True)
class EpochSummary:
    """What an epoch of training did so far, with what an earlier session did of it."""

    num_batches: int = 0
    num_skipped: int = 0  # batches whose loss or gradient was not finite: no update was made
    loss_sum: float = 0.0  # over the updates
    learning_rate: float = math.nan  # of the last step
    seconds: float = 0.0
    compile_seconds: float = 0.0
    window_seconds: tuple[float, ...] = ()  # per step, of windows of steps without a compilation; of this session
    window_cpu_seconds: tuple[float, ...] = ()  # of all threads of this process, per step, of the same windows

    @property
    def loss(self) -> float:
        """Mean over the updates; NaN if there was none."""
        num_updates = self.num_batches - self.num_skipped
        return self.loss_sum / num_updates if num_updates else math.nan

    def sums(self) -> dict[str, float]:
        """What a later session has to know of it beside `num_batches`."""
        return {
            "num_skipped": self.num_skipped,
            "loss_sum": self.loss_sum,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
        }

    @property
    def step_quantiles(self) -> tuple[float, ...] | None:
        """Quantiles 0, 1/4, 1/2, 3/4 and 1 of the windows, s per step; None if there was none."""
        return tuple(map(float, np.quantile(self.window_seconds, (0, 0.25, 0.5, 0.75, 1)))) if self.window_seconds else None

    @property
    def cpu_per_wall(self) -> float | None:
        """CPU seconds of the process for a second of its steps: lower where the machine does other work, too; None without a window."""
        return sum(self.window_cpu_seconds) / sum(self.window_seconds) if self.window_seconds else None


Report = Callable[[float, float, int], None]
"""(progress, recent loss, steps done in this epoch) → None, for a progress bar."""


class Skips:
    """Counts updates that were not made because a loss or gradient was not finite."""

    def __init__(self, count: int = 0, in_a_row: Iterable[tuple[int, int]] = ()) -> None:
        self.count = count
        self.in_a_row = list(in_a_row)  # (epoch, number) of batches without an update in between

    @property
    def are_too_many(self) -> bool:
        """Whether the training cannot go on."""
        return len(self.in_a_row) >= _MAX_SKIPPED_IN_A_ROW

    def observe(self, epoch: int, number: int, loss: float) -> None:
        """One more batch and the loss that its step returned."""
        if np.isfinite(loss):
            self.in_a_row.clear()
            return
        self.count += 1
        self.in_a_row.append((epoch, number))


def train_epoch(
    state: TrainState, loader: BatchLoader, train_step: CompiledStep, plan: Plan, epoch: int, so_far: EpochSummary, skips: Skips,
    report: Report, should_stop: Callable[[], bool],
) -> tuple[TrainState, EpochSummary]:  # fmt: skip
    """Train on the batches of an epoch, until its end, the end of the time, a request to stop, or too many updates that were not finite.

    Args:
        state: the current one; it is consumed.
        loader: of the training set.
        train_step: the compiled update.
        plan: learning rate and loss weights by progress.
        epoch: counted from 0.
        so_far: what was done of it; the batches that it counts are passed over.
        skips: counts on.
        report: called after every window of steps.
        should_stop: asked after every step.
    """
    began, first = time.monotonic(), so_far.num_batches
    losses: list[jax.Array] = []
    known: list[float] = []
    windows = _Windows(train_step)

    def control_of(number: int) -> Control:
        return plan.control(plan.middle(epoch + number / loader.num_batches, epoch + (number + 1) / loader.num_batches))

    control = control_of(max(first - 1, 0))

    def look() -> None:
        """Wait for the device, then count what it found."""
        windows.close(jax.block_until_ready(losses[-1:]))
        for loss in losses[len(known) :]:
            known.append(float(loss))
            skips.observe(epoch, first + len(known) - 1, known[-1])

    for batch in loader.epoch(epoch, first):
        progress = plan.progress(epoch + (first + len(losses)) / loader.num_batches)
        if progress >= 1 and losses:
            break
        control = control_of(first + len(losses))
        state, loss = train_step(state, batch, control)
        losses.append(loss)
        if windows.is_full():
            look()
            report(progress, known[-1], first + len(known))
        if skips.are_too_many or should_stop():
            break
    look()
    finite = [loss for loss in known if np.isfinite(loss)]
    summary = EpochSummary(
        num_batches=first + len(known),
        num_skipped=so_far.num_skipped + len(known) - len(finite),
        loss_sum=functools.reduce(operator.add, finite, so_far.loss_sum),  # one by one: the same, wherever an epoch was interrupted
        learning_rate=float(control.learning_rate),
        seconds=so_far.seconds + time.monotonic() - began,
        compile_seconds=so_far.compile_seconds + windows.compile_seconds,
        window_seconds=so_far.window_seconds + tuple(windows.seconds),
        window_cpu_seconds=so_far.window_cpu_seconds + tuple(windows.cpu_seconds),
    )
    return state, summary


class _Windows:
    """Times windows of steps, with one synchronisation at the end of each; a window with a compilation does not count."""

    def __init__(self, step: CompiledStep) -> None:
        self._step = step
        self._compile_start = self._compile_seen = step.compile_seconds
        self._start, self._cpu_start = time.monotonic(), time.process_time()
        self._count = 0
        self._limit = 1
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    @property
    def compile_seconds(self) -> float:
        return self._step.compile_seconds - self._compile_start

    def is_full(self) -> bool:
        """Count one more step; true when it is time to synchronise."""
        self._count += 1
        return self._count >= self._limit or self._step.compile_seconds != self._compile_seen

    def close(self, _: list[jax.Array]) -> None:
        """End the window; call it once the device is idle."""
        now, cpu_now = time.monotonic(), time.process_time()
        if self._count and self._step.compile_seconds == self._compile_seen:
            per_step = (now - self._start) / self._count
            self.seconds.append(per_step)
            self.cpu_seconds.append((cpu_now - self._cpu_start) / self._count)
            self._limit = max(1, min(_WINDOW, int(_WINDOW_SECONDS / per_step)))
        self._compile_seen = self._step.compile_seconds
        self._start, self._cpu_start, self._count = now, cpu_now, 0


def build_stages(config: LossConfig) -> tuple[Stage, ...]:
    """The parts of the training with loss weights of their own."""
    first, second = Stage(0.0, build_loss_weights(config)), Stage(config.stage_two.start, build_loss_weights(config.stage_two))
    return (first, second) if second.start < 1 else (first,)
