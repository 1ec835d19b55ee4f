"""The learning rate and the loss weights of a training as functions of its progress."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from mace_tp.config import Config, LossConfig, OptimizerConfig
from mace_tp.training.loss import LossWeights, build_loss_weights
from mace_tp.training.progress import Progress
from mace_tp.training.step import Control, make_control


@dataclasses.dataclass
class ConstantSchedule:
    """The same learning rate, after a linear warm-up."""

    warmup: float = 0.0  # fraction of the training

    def __call__(self, progress: float) -> float:
        return _warmup(progress, self.warmup)

    def observe(self, valid_loss: float) -> None:
        """Do nothing: the rate does not depend on the validation loss."""

    def restart(self) -> None:
        """Do nothing: there is no best loss to forget."""


@dataclasses.dataclass
class CosineSchedule:
    """Half a cosine from one to `final`, after a linear warm-up."""

    warmup: float = 0.0  # fraction of the training
    final: float = 0.0  # factor at the end

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return _warmup(progress, self.warmup)
        phase = (progress - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(phase, 1.0)))

    def observe(self, valid_loss: float) -> None:
        """Do nothing: the rate does not depend on the validation loss."""

    def restart(self) -> None:
        """Do nothing: there is no best loss to forget."""


@dataclasses.dataclass
class PlateauSchedule:
    """Multiplied by `factor` whenever the validation loss has not improved for `patience` epochs (ACEsuit: 0.8 and 50)."""

    warmup: float = 0.0
    factor: float = 0.8
    patience: int = 50
    scale: float = 1.0  # current factor
    best: float = math.inf
    num_bad: int = 0

    def __call__(self, progress: float) -> float:
        return self.scale * _warmup(progress, self.warmup)

    def observe(self, valid_loss: float) -> None:
        """Take the validation loss of an epoch into account. An improvement is one of more than 1e-4 relative, torch's default."""
        if valid_loss < self.best * (1 - 1e-4):
            self.best, self.num_bad = valid_loss, 0
            return
        self.num_bad += 1
        if self.num_bad > self.patience:
            self.scale, self.num_bad = self.scale * self.factor, 0

    def restart(self) -> None:
        """Forget the best loss, because losses of another stage cannot be compared with it."""
        self.best, self.num_bad = math.inf, 0


Schedule = ConstantSchedule | CosineSchedule | PlateauSchedule
"""(progress in [0, 1]) → factor on the learning rate."""


def with_memory(schedule: Schedule, saved: Mapping[str, float]) -> Schedule:
    """The schedule as configured, with the memory of a schedule of its kind whose fields were saved."""
    learnt = {"scale", "best", "num_bad"} & saved.keys() & {field.name for field in dataclasses.fields(schedule)}
    return dataclasses.replace(schedule, **{name: saved[name] for name in learnt})


def _warmup(progress: float, warmup: float) -> float:
    return min(1.0, progress / warmup) if warmup > 0 else 1.0


def build_schedule(config: OptimizerConfig) -> Schedule:
    """The learning rate's schedule; `check_config` has seen that the name is one of these."""
    if config.schedule == "constant":
        return ConstantSchedule(config.warmup)
    if config.schedule == "cosine":
        return CosineSchedule(config.warmup, config.final_factor)
    return PlateauSchedule(config.warmup, config.plateau_factor, config.plateau_patience)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training with its own loss weights."""

    start: float  # progress at which it begins, in [0, 1]
    weights: LossWeights


def build_stages(config: LossConfig) -> tuple[Stage, ...]:
    """Stage one, and stage two unless it is turned off."""
    first, second = Stage(0.0, build_loss_weights(config)), Stage(config.stage_two.start, build_loss_weights(config.stage_two))
    return (first, second) if second.start < 1 else (first,)


@dataclasses.dataclass
class Timetable:
    """How much of a training is done, and the learning rate and loss weights that belong to it."""

    max_epochs: int
    max_seconds: float | None  # of training; None for no limit
    seconds: Callable[[], float]  # of training so far, without compilation
    learning_rate: float
    schedule: Schedule
    stages: tuple[Stage, ...]  # ascending; the first starts at 0
    ema_decay: float
    dtype: np.dtype
    passed_over: int = 0  # epochs of stage one that are left out, because nothing got better

    def progress(self, epochs: float) -> float:
        """Fraction of the training that is done after these epochs, by epochs or by the clock, whichever is further; may exceed one."""
        return max((epochs + self.passed_over) / self.max_epochs, self.by_clock())

    def by_clock(self) -> float:
        """Fraction of the time limit that has passed; zero without a limit."""
        return 0.0 if self.max_seconds is None else min(self.seconds() / self.max_seconds, 1.0)

    def middle(self, before: float, after: float) -> float:
        """Progress in the middle of a step, which sets its learning rate; at the beginning of a warm-up the rate would be zero.

        Args:
            before: epochs that are done when the step begins.
            after: epochs that are done when it ends.
        """
        begin = self.progress(before)
        if begin >= 1:  # The time is over. Every training makes at least one step; that step alone is the whole training.
            return 1.0 if before else 0.5
        return (begin + min(self.progress(after), 1.0)) / 2

    def stage(self, progress: float) -> int:
        """Index of the stage at a progress."""
        return max(i for i, stage in enumerate(self.stages) if progress >= stage.start)

    def control(self, progress: float) -> Control:
        """Learning rate, loss weights and decay of the average for a step at this progress."""
        rate = self.learning_rate * self.schedule(progress)
        return make_control(rate, self.stages[self.stage(progress)].weights, self.ema_decay, self.dtype)


def build_timetable(config: Config, seconds: Callable[[], float], progress: Progress) -> Timetable:
    """The timetable of a training.

    Args:
        config: the whole configuration.
        seconds: returns the time of the training so far, s.
        progress: of a training that is resumed, whose schedule keeps its memory.
    """
    minutes = config.trainer.max_minutes
    return Timetable(
        max_epochs=config.trainer.max_epochs,
        max_seconds=None if minutes is None else 60 * minutes,
        seconds=seconds,
        learning_rate=config.optimizer.learning_rate,
        schedule=with_memory(build_schedule(config.optimizer), progress.schedule),
        stages=build_stages(config.loss),
        ema_decay=config.optimizer.ema_decay,
        dtype=np.dtype(config.dtype),
        passed_over=progress.passed_over,
    )
