"""Step times of a run on this machine, with the run's own batches; `compare --retime` calls this in a fresh process."""

import itertools
import time

from mace_tp.config import Config
from mace_tp.evaluation.step_times import Timed
from mace_tp.training.fit import fit
from mace_tp.training.preparation import computing, prepare
from mace_tp.training.progress import Epoch, Progress
from mace_tp.training.schedule import build_timetable
from mace_tp.training.state import initial_state

# Enough windows for quartiles, and an end for slow steps.
_STEPS = 60
_SECONDS = 20.0


def time_steps(config: Config) -> Timed:
    """Train from random weights for about 60 steps or 20 s without compilation, and keep only the times.

    Raises:
        InputError: the data cannot be read any more, or a key of the configuration cannot be used.
    """
    with computing(config) as environment:
        setup = prepare(config, environment)
        loader, step = setup.train_loader, setup.train_step
        state = initial_state(setup.model.params, setup.optimizer)
        timetable = build_timetable(config, lambda: 0.0, Progress())
        begun, done = time.monotonic(), itertools.count(1)

        def is_enough() -> bool:
            return next(done) >= _STEPS or time.monotonic() - begun - step.compile_seconds > _SECONDS

        windows: list[float] = []
        cpu_seconds: list[float] = []
        # The first epoch again and again: its first pass compiles for all shapes of its batches.
        while not windows or not is_enough():
            state, epoch = next(fit(state, loader, step, timetable, Epoch(), lambda *_: None, is_enough))
            windows += epoch.window_seconds
            cpu_seconds += epoch.window_cpu_seconds
        return Timed(windows, cpu_seconds, loader.num_batches, environment)
