"""`mace-tp compare`: a table over finished trainings; runs of other data are refused."""

import json

import pytest
from run_directories import make_run


@pytest.mark.slow
def test_real_trainings_are_compared(run, on_molecules, finished, tmp_path):
    outcome = run(*on_molecules, "tensor_product=spherical_grid", f"run_dir={tmp_path}/grid")
    assert outcome.code == 0, outcome.err

    outcome = run("compare", finished[0], tmp_path / "grid", "--out", tmp_path / "out")

    assert outcome.code == 0, outcome.err
    assert "| cg " in outcome.out and "| spherical_grid " in outcome.out and "speed-up: step time of cg" in outcome.out
    warnings = [line for line in outcome.out.splitlines() if "WARNING" in line]
    assert "NOT COMPARABLE" not in outcome.out and all("WARNING step time of" in line for line in warnings), "of a busy machine"
    for name in (
        "comparison.md",
        "comparison.csv",
        "comparison.json",
        "learning_curves.png",
        "error_against_step.png",
        "seconds_and_errors.png",
    ):
        assert (tmp_path / "out" / name).stat().st_size > 0 and str(tmp_path / "out" / name) in outcome.out


def test_runs_of_other_data_are_refused_or_flagged(run, tmp_path):
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "runs" / "b", "gaunt", data="bb")

    outcome = run("compare", tmp_path / "runs")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "the runs cannot be compared: train and valid data differ" in outcome.err and "--anyway" in outcome.err

    outcome = run("compare", tmp_path / "runs", "--anyway")
    assert outcome.code == 0 and "* NOT COMPARABLE: train and valid data differ" in outcome.out


def test_unfinished_runs_are_listed(run, tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", "gaunt", finished=False)

    outcome = run("compare", tmp_path)
    assert outcome.code == 0 and f"not finished, left out: {tmp_path}/b (3 epochs)" in outcome.out

    outcome = run("compare", tmp_path / "b")
    assert outcome.code == 2 and "1 runs, none of them finished" in outcome.err


@pytest.mark.slow
def test_rows_are_timed_anew(run, finished, tmp_path):
    outcome = run("compare", "--retime", finished[0], "--rounds", "1", "--out", tmp_path)

    assert outcome.code == 0, outcome.err
    assert "round 1 of 1: cg, " in outcome.err
    assert "steps and s/epoch: timed now, 1 rounds of all rows in turn, each in a fresh process (device cpu: cpu" in outcome.out
    row = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))["rows"][0]
    assert 0 < row["step_ms_min"] <= row["step_ms_q1"] <= row["step_ms"] <= row["step_ms_q3"]
    assert row["seconds_per_epoch"] == pytest.approx(5 * row["step_ms"] / 1000)
    outcome = run("compare", finished[0], "--retime", "--rounds", "0")
    assert outcome.code == 2 and outcome.err == "mace-tp compare: --rounds 0: must be positive\n"
