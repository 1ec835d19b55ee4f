"""Times the training step of a run on this machine, with the run's own batches: what a fresh process of `compare --retime` does."""

import itertools
import time

import jax

from mace_tp.config import Config
from mace_tp.evaluation.step_times import Timed
from mace_tp.runtime.devices import find_device, set_dtype
from mace_tp.runtime.environment import describe
from mace_tp.training.loop import EpochSummary, Plan, Skips, build_stages, train_epoch
from mace_tp.training.optimizer import build_schedule
from mace_tp.training.preparation import prepare
from mace_tp.training.state import initial_state

# Enough windows for quartiles, and an end for slow steps.
_STEPS = 60
_SECONDS = 20.0


def time_steps(config: Config) -> Timed:
    """Train from random weights for some 60 steps or 20 s, compilation apart, and keep nothing but the times.

    Raises:
        InputError: the data cannot be read any more, or a key of the configuration cannot be used.
    """
    dtype, device = set_dtype(config.dtype), find_device(config.device)
    with jax.default_device(device):
        setup = prepare(config, dtype)
        state = initial_state(setup.model.params, setup.optimizer)
        plan = Plan(
            max_epochs=config.trainer.max_epochs,
            max_seconds=None,
            seconds=lambda: 0.0,
            learning_rate=config.optimizer.learning_rate,
            schedule=build_schedule(config.optimizer),
            stages=build_stages(config.loss),
            ema_decay=config.optimizer.ema_decay,
            dtype=dtype,
        )
        begun, done = time.monotonic(), itertools.count(1)

        def is_enough() -> bool:
            return next(done) >= _STEPS or time.monotonic() - begun - setup.train_step.compile_seconds > _SECONDS

        windows: list[float] = []
        cpu_seconds: list[float] = []
        # Again and again the first epoch: the shapes of its batches are compiled in the first pass.
        while not windows or not is_enough():
            state, summary = train_epoch(
                state, setup.train_loader, setup.train_step, plan, 0, EpochSummary(), Skips(), lambda *_: None, is_enough
            )
            windows += summary.window_seconds
            cpu_seconds += summary.window_cpu_seconds
        return Timed(windows, cpu_seconds, setup.train_loader.num_batches, describe(device, config.dtype))
