"""Step times of a comparison: other work on the machine is noticed, and rows can be timed anew, in turn."""

import subprocess

import pytest
from run_directories import make_run

from mace_tp.errors import InputError
from mace_tp.evaluation.comparison import find_runs, group_runs
from mace_tp.evaluation.comparison_table import make_rows, markdown
from mace_tp.evaluation.step_times import Timed, cpu_doubts, doubts, recorded, retime


def _groups(folder):
    return group_runs(find_runs([folder]))


def _doubts(groups) -> list[str]:
    return doubts(groups, {group.name: recorded(group) for group in groups})


def test_steady_runs_raise_no_doubt(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1, step_seconds=0.021)

    (group,) = groups = _groups(tmp_path)

    assert _doubts(groups) == cpu_doubts(groups) == []
    assert recorded(group).quartiles == pytest.approx((0.0196, 0.02142)) and recorded(group).least == pytest.approx(0.018)


def test_two_runs_of_one_training_at_different_speeds_are_doubted(tmp_path):
    make_run(tmp_path / "busy", step_seconds=0.077)
    make_run(tmp_path / "quiet", step_seconds=0.035)

    groups = _groups(tmp_path)

    assert _doubts(groups) == ["step time of cg: 34.3 to 78.5 ms around 56.0 (79 %)"]
    assert "34.3-78.5" in markdown(make_rows(groups, None), [])


def test_a_process_that_had_a_part_of_a_core_is_doubted(tmp_path):
    make_run(tmp_path / "starved", cpu_per_wall=0.55)
    assert _doubts(_groups(tmp_path)) == ["step time of cg: the process had 0.55 CPU seconds for each second of its steps"]


def test_runs_that_had_different_parts_of_the_cpu_are_doubted(tmp_path):
    make_run(tmp_path / "busy", cpu_per_wall=1.1)
    make_run(tmp_path / "quiet", cpu_per_wall=1.9)

    assert cpu_doubts(_groups(tmp_path)) == ["step time of cg: epochs had 1.10 to 1.90 CPU seconds for each second of their steps"]


def test_on_a_gpu_the_process_may_wait(tmp_path):
    make_run(tmp_path / "a", cpu_per_wall=0.2, device="gpu: H100")
    assert _doubts(_groups(tmp_path)) == []


def test_rows_are_timed_in_turn_and_their_times_are_used(tmp_path):
    """`cg` was trained beside other work, so that `matrix` seemed twice as fast; measured in turn both take the same."""
    make_run(tmp_path / "a", step_seconds=0.056)
    make_run(tmp_path / "b", seed=1, step_seconds=0.056)
    make_run(tmp_path / "m", "matrix", step_seconds=0.0208)
    groups, order = _groups(tmp_path), []

    def time_run(run):
        order.append(run.path.name)
        return Timed([0.021, 0.020, 0.022], [0.04, 0.04, 0.04], 90, {"device": "cpu: cpu"})

    times, environment = retime(groups, 2, lambda line: None, time_run)
    cg, matrix = make_rows(groups, groups[0], times)

    assert order == ["a", "m", "a", "m"] and environment == {"device": "cpu: cpu"}
    assert make_rows(groups, groups[0])[1]["speed_up"] == pytest.approx(2.69, abs=0.01) and matrix["speed_up"] == 1
    assert (cg["step_ms"], cg["step_ms_min"]) == pytest.approx((21, 20)) and cg["seconds_per_epoch"] == pytest.approx(1.89)
    assert doubts(groups, times) == []


def test_rounds_that_differ_are_doubted(tmp_path):
    make_run(tmp_path / "a")
    groups, rounds = _groups(tmp_path), iter([0.035, 0.077, 0.036])

    times, _ = retime(groups, 3, lambda line: None, lambda run: Timed([next(rounds)] * 3, [0.03] * 3, 90, {}))

    assert times["cg"].seconds == 0.036 and doubts(groups, times)[0].startswith("step time of cg: 35.0 to 77.0 ms around 36.0")


def test_a_run_that_cannot_be_timed_is_one_line(tmp_path, monkeypatch):
    make_run(tmp_path / "a")
    failed = subprocess.CompletedProcess([], 2, stdout="", stderr="a warning\nmace-tp compare: a.xyz: no such file\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: failed)

    with pytest.raises(InputError) as caught:
        retime(_groups(tmp_path), 1, print)
    reason = "a.xyz: no such file (the data of a run are read again, by the paths in its config.yaml)"
    assert str(caught.value) == f"--retime: {tmp_path}/a cannot be timed: {reason}"
