"""From the command line: a run of molecular dynamics, and what is refused."""

import csv

import ase.io
import numpy as np
import pytest
from test_bad_input import assert_one_line

FLAGS = ("--steps", "25", "--timestep", "0.1", "--temperature", "100")


@pytest.fixture(scope="module")
def dynamics(run, finished, toys, tmp_path_factory):
    """What the terminal saw of a run, and its folder."""
    folder = tmp_path_factory.mktemp("md") / "new" / "run"
    outcome = run("md", finished[0], toys / "test.xyz", *FLAGS, "--frame", "1", "--out", folder)
    assert outcome.code == 0, outcome.err
    return outcome, folder


def test_trajectory_log_and_picture_are_written(dynamics, toys):
    outcome, folder = dynamics
    frames = ase.io.read(folder / "trajectory.extxyz", ":")
    with open(folder / "log.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["step"]) for line in lines] == [0, 10, 20, 25] and len(frames) == 4
    start = ase.io.read(toys / "test.xyz", 1)
    np.testing.assert_allclose(frames[0].positions, start.positions, atol=1e-7)
    assert np.abs(frames[-1].positions - start.positions).max() > 1e-4
    for frame, line in zip(frames, lines):
        assert frame.get_potential_energy() == pytest.approx(float(line["potential_energy"]), abs=1e-6)
        assert frame.get_forces().shape == (len(start), 3) and frame.info["time_fs"] == pytest.approx(float(line["time"]))
        assert frame.get_kinetic_energy() == pytest.approx(float(line["kinetic_energy"]), abs=1e-6)
    assert (folder / "energies.png").stat().st_size > 5_000
    assert "25 steps of 0.1 fs" in outcome.out and "drift" in outcome.out and "threads" in outcome.out


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--steps", "0"), "--steps 0: must be positive"),
        (("--timestep", "nan"), "--timestep nan: must be positive"),
        (("--ensemble", "npt"), "ensemble npt: needs a structure that is periodic in all three directions"),
        (("--frame", "99"), "has no frame 99; frames count from 0"),
    ],
)
def test_flags_that_cannot_be_used_are_named(flags, message, run, finished, toys, tmp_path):
    assert_one_line(run("md", finished[0], toys / "test.xyz", *flags, "--out", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


def test_files_that_cannot_be_used_are_named(run, finished, toys, tmp_path, dynamics):
    (tmp_path / "text.xyz").write_text("not a structure\n")
    for structure, message in (("none.xyz", "no such file"), ("text.xyz", "ASE cannot read it")):
        assert_one_line(run("md", finished[0], tmp_path / structure, "--out", tmp_path / "run"), message)
    ase.io.write(tmp_path / "silicon.xyz", ase.Atoms("Si2", [[0, 0, 0], [2, 0, 0]]))
    assert_one_line(run("md", finished[0], tmp_path / "silicon.xyz", "--out", tmp_path / "run"), "element Si is not one of the model's")
    assert_one_line(run("md", finished[0], toys / "test.xyz", "--out", dynamics[1]), "is there already; give a new folder")
    assert_one_line(run("md", tmp_path, toys / "test.xyz", "--out", tmp_path / "other"), "no model here")
