"""Times of a training over all its sessions, and of the first step of this one."""

import logging
import time

from mace_tp.runtime.compilation import CompileClock, Stopwatch
from mace_tp.training.progress import Progress

_LOG = logging.getLogger("mace_tp")


class Clock:
    """Seconds of a training. Those of the training itself, without reading and compilation, count from the making of this object."""

    def __init__(self, started: float, compilations: CompileClock, before: Progress) -> None:
        """
        Args:
            started: time.monotonic() when the command began.
            compilations: counts those of this session.
            before: holds the times of the sessions before this one.
        """
        self._started, self._compilations = started, compilations
        self._elapsed_before, self._compiled_before = before.elapsed_seconds, before.compile_seconds
        self._stopwatch = Stopwatch(compilations, before.training_seconds or 0.0)
        self.first_step_seconds: float | None = None  # from the beginning of the command; None before that step

    def total_seconds(self) -> float:
        """Wall-clock time since the command began, and of the sessions before."""
        return self._elapsed_before + time.monotonic() - self._started

    def training_seconds(self) -> float:
        """Time of updates, validations and checkpoints, without reading of the data and compilation."""
        return self._stopwatch.seconds()

    def compile_seconds(self) -> float:
        """Time of all compilations since the command began, and of those of the sessions before."""
        return self._compiled_before + self._compilations.seconds

    def note_step(self) -> None:
        """Log how long the command took until the first step; later calls do nothing."""
        if self.first_step_seconds is None:
            self.first_step_seconds = time.monotonic() - self._started
            _LOG.info("first step after %.1f s, %.1f s of them compilation", self.first_step_seconds, self._compilations.seconds)

    def note(self, progress: Progress) -> None:
        """Write the times into the progress that a checkpoint keeps."""
        progress.elapsed_seconds, progress.compile_seconds = self.total_seconds(), self.compile_seconds()
        progress.training_seconds = self.training_seconds()
