"""The loop: when it yields, what it counts, and where it goes on. Batches are numbers, and a step returns the loss that it is given."""

import itertools
import math

import numpy as np
import pytest

from mace_tp.training.fit import fit
from mace_tp.training.loss import LossWeights
from mace_tp.training.progress import Epoch, Progress
from mace_tp.training.schedule import ConstantSchedule, Stage, Timetable


class _Loader:
    """Three batches in every epoch, numbered 0, 1, 2; 10, 11, 12; ..."""

    num_batches = 3

    def epoch(self, index, first=0):
        return (10 * index + number for number in range(first, self.num_batches))


class _Step:
    """The state is the list of batches so far; a loss is the batch, or NaN for the batches that are spoilt."""

    compile_seconds = 0.0

    def __init__(self, spoilt=()):
        self.spoilt = spoilt

    def __call__(self, state, batch, control):
        return [*state, batch], math.nan if batch in self.spoilt else float(batch)


def _timetable(max_seconds=None, seconds=0.0) -> Timetable:
    return Timetable(
        max_epochs=100, max_seconds=max_seconds, seconds=lambda: seconds, learning_rate=0.1, schedule=ConstantSchedule(),
        stages=(Stage(0.0, LossWeights(1.0, 1.0, 1.0)),), ema_decay=0.9, dtype=np.dtype(np.float64),
    )  # fmt: skip


def _fit(step=None, timetable=None, epoch=None, should_pause=lambda: False):
    return fit([], _Loader(), step or _Step(), timetable or _timetable(), epoch or Epoch(), lambda *_: None, should_pause)


def test_it_yields_after_every_epoch():
    seen = [(state, epoch.index, epoch.num_batches, epoch.loss, epoch.is_complete) for state, epoch in itertools.islice(_fit(), 2)]

    assert seen == [([0, 1, 2], 0, 3, 1.0, True), ([0, 1, 2, 10, 11, 12], 1, 3, 11.0, True)]


def test_a_pause_comes_after_a_step_and_loses_none():
    pauses = iter([False, True, False, True, False, False])
    parts = itertools.islice(_fit(should_pause=lambda: next(pauses)), 4)
    seen = [(len(state), epoch.num_batches, epoch.is_complete) for state, epoch in parts]

    assert seen == [(2, 2, False), (3, 3, True), (4, 1, False), (6, 3, True)]


def test_a_pause_after_the_last_batch_is_the_end_of_the_epoch():
    seen = [epoch.is_complete for _, epoch in itertools.islice(_fit(should_pause=lambda: True), 3)]

    assert seen == [False, False, True]


def test_an_epoch_that_was_interrupted_goes_on_with_its_sums():
    pauses = iter([False, True])
    _, half = next(_fit(should_pause=lambda: next(pauses)))
    progress = Progress()
    progress.count(half)

    state, rest = next(_fit(epoch=progress.next_epoch()))

    assert state == [2] and (rest.num_batches, rest.loss_sum) == (3, 3.0)
    assert progress.num_batches == 2
    progress.count(rest)
    assert progress.num_batches == 3


@pytest.mark.parametrize(("first", "state"), [(0, [0]), (2, [2])])
def test_when_the_time_is_over_one_step_is_made(first, state):
    made, epoch = next(_fit(timetable=_timetable(max_seconds=1.0, seconds=2.0), epoch=Epoch(num_batches=first)))

    assert made == state and epoch.is_complete


def test_updates_that_were_skipped_are_counted_across_epochs_and_stop_the_loop():
    spoilt = {2, *(10 * index + number for index in range(1, 4) for number in range(3))}
    progress = Progress()
    epochs = []
    for _, epoch in _fit(_Step(spoilt)):
        epochs.append(epoch)
        progress.count(epoch)
        if epoch.has_failed:
            break
        progress.complete_epoch(1.0, 0)

    assert [epoch.num_skipped for epoch in epochs] == [1, 3, 3, 3] and not epochs[0].has_failed
    assert math.isnan(epochs[1].loss) and epochs[0].loss == 0.5
    assert epochs[-1].skipped_in_a_row[0] == (0, 2) and epochs[-1].skipped_in_a_row[-1] == (3, 2)
    assert progress.num_skipped == 10


def test_an_update_in_between_ends_a_row_of_skipped_ones():
    _, epoch = next(_fit(_Step({0, 2})))

    assert epoch.skipped_in_a_row == [(0, 2)]
