"""Learning rate, stage and end of a training as functions of its progress."""

import numpy as np
import pytest

from mace_tp.training.loss import LossWeights
from mace_tp.training.schedule import CosineSchedule, Stage, Timetable

_WEIGHTS = LossWeights(1.0, 1.0, 1.0)


def _timetable(max_epochs: int, max_seconds: float | None = None, passed_over: int = 0) -> Timetable:
    return Timetable(
        max_epochs=max_epochs, max_seconds=max_seconds, seconds=lambda: 1.0, learning_rate=0.1,
        schedule=CosineSchedule(warmup=0.01), stages=(Stage(0.0, _WEIGHTS), Stage(0.6, _WEIGHTS)), ema_decay=0.9,
        dtype=np.dtype(np.float64), passed_over=passed_over,
    )  # fmt: skip


@pytest.mark.parametrize("max_seconds", [None, 0.5], ids=["epochs", "no time"])
def test_a_training_of_one_step_learns_with_half_the_rate(max_seconds):
    timetable = _timetable(1, max_seconds)
    assert float(timetable.control(timetable.middle(0, 1)).learning_rate) == pytest.approx(0.05, rel=0.05)


def test_no_step_of_a_training_has_a_rate_of_zero():
    timetable = _timetable(10)
    rates = [float(timetable.control(timetable.middle(step / 5, (step + 1) / 5)).learning_rate) for step in range(50)]
    assert min(rates) > 1e-5 and rates[0] == max(rates) and np.mean(rates) == pytest.approx(0.05, rel=0.02)


def test_a_step_that_comes_when_the_time_is_over_has_the_rate_of_the_end():
    timetable = _timetable(10, max_seconds=0.5)
    assert timetable.middle(3.2, 3.4) == 1.0


def test_epochs_that_are_passed_over_are_done():
    timetable = _timetable(35, passed_over=18)
    assert timetable.stage(timetable.progress(3)) == 1 and timetable.progress(17) == 1.0
