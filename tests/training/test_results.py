"""Results: the spread of a step and the CPU's share of it, by which other work on the machine is seen."""

import time

import numpy as np
import pytest

from mace_tp.training.fit import _Window
from mace_tp.training.progress import Epoch
from mace_tp.training.results import epoch_record, spread_of_steps


class _Step:
    """A compiled step that needs no compilation."""

    compile_seconds = 0.0


def _record(seconds: list[float], cpu_seconds: list[float]) -> dict:
    epoch = Epoch(num_batches=3, window_seconds=seconds, window_cpu_seconds=cpu_seconds)
    return epoch_record(1, 3, epoch, 0.5, {})


def test_an_epoch_tells_quantiles_of_its_steps_and_the_share_of_the_cpu():
    record = _record([0.04, 0.02, 0.03, 0.05, 0.06], [0.02] * 5)

    names = ("step_seconds_min", "step_seconds_q1", "step_seconds", "step_seconds_q3", "step_seconds_max")
    assert [record[name] for name in names] == pytest.approx([0.02, 0.03, 0.04, 0.05, 0.06])
    assert record["cpu_per_wall"] == pytest.approx(0.5)


def test_an_epoch_of_compilations_only_tells_none():
    assert _record([], [])["step_seconds_q1"] is None and _record([], [])["cpu_per_wall"] is None


def test_a_load_that_comes_and_goes_between_epochs_is_seen_in_the_results():
    quiet, busy = _record([0.035, 0.035, 0.036], [0.07] * 3), _record([0.077, 0.077, 0.078], [0.07] * 3)

    spread = spread_of_steps([quiet, quiet, busy, busy])

    assert [spread[f"step_seconds_{name}"] for name in ("min", "q1", "q3")] == pytest.approx([0.035, 0.035, 0.077], rel=0.02)
    assert 0.9 < spread["cpu_per_wall"] < 2
    assert spread_of_steps([{"epoch": 1, "step_seconds": 0.02}])["cpu_per_wall"] is None, "written by an older version"


def test_windows_measure_the_time_of_the_cpu():
    epoch = Epoch()
    window = _Window(_Step(), epoch)
    time.sleep(0.05)
    assert window.add(1.0)
    window.close()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        np.linalg.eigvalsh(np.eye(40))
    window.add(1.0)
    window.close()

    asleep, awake = (cpu / wall for cpu, wall in zip(epoch.window_cpu_seconds, epoch.window_seconds, strict=True))
    assert asleep < 0.5 < awake or asleep < 0.1 * awake
