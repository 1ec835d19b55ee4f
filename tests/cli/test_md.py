"""From the command line: a run of molecular dynamics, and what is refused."""

import csv
from itertools import islice

import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms
from command import assert_one_line, output_to_nobody

import mace_tp.cli.md
from mace_tp.errors import TrainingError
from mace_tp.simulation.md import simulate

FLAGS = ("--steps", "25", "--timestep", "0.1", "--temperature", "100")


@pytest.fixture(scope="module")
def dynamics(run, finished, toys, tmp_path_factory):
    """Return what a run prints, and its folder."""
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
    assert "compiling energy and forces for up to 11 atoms and " in outcome.out
    assert "25 steps of 0.1 fs" in outcome.out and "drift" in outcome.out and "threads" in outcome.out


def test_a_run_outlives_its_standard_output(run, finished, toys, dynamics, tmp_path):
    with output_to_nobody() as nobody:
        outcome = run("md", finished[0], toys / "test.xyz", *FLAGS, "--frame", "1", "--out", tmp_path / "md", out=nobody)

    assert outcome.code == 0 and outcome.err.count("\n") == 1 and "(Broken pipe); the run goes on and is written to" in outcome.err
    assert {path.name for path in (tmp_path / "md").iterdir()} == {path.name for path in dynamics[1].iterdir()}
    assert (tmp_path / "md" / "log.csv").read_text() == (dynamics[1] / "log.csv").read_text()


def test_constraints_and_masses_of_the_file_hold_and_a_run_goes_on_where_it_ended(run, finished, toys, tmp_path):
    start = ase.io.read(toys / "test.xyz", 1)
    start.set_constraint(FixAtoms([0]))
    start.set_masses([3.0] * len(start))
    ase.io.write(tmp_path / "start.traj", start)
    for structure, name, steps in (("start.traj", "whole", "20"), ("start.traj", "first", "10"), ("first/trajectory.extxyz", "rest", "10")):
        going_on = ("--frame", "-1", "--keep-velocities") if name == "rest" else ()
        outcome = run("md", finished[0], tmp_path / structure, *FLAGS, "--steps", steps, *going_on, "--out", tmp_path / name)
        assert outcome.code == 0, outcome.err

    whole, rest = (ase.io.read(tmp_path / name / "trajectory.extxyz", -1) for name in ("whole", "rest"))
    np.testing.assert_allclose(whole.positions[0], start.positions[0], atol=1e-7)
    assert np.abs(whole.positions - start.positions).max() > 1e-4
    # The file has eight decimals.
    np.testing.assert_allclose(rest.positions, whole.positions, atol=1e-6)
    np.testing.assert_allclose(rest.get_momenta(), whole.get_momenta(), atol=1e-5)
    np.testing.assert_allclose(rest.get_masses(), 3.0)


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (TrainingError("atoms are lost"), 1)], ids=["Ctrl-C", "lost"])
def test_a_run_that_ends_early_leaves_its_picture(error, code, run, finished, toys, tmp_path, monkeypatch):
    def ending(atoms, simulation):
        yield from islice(simulate(atoms, simulation), 2)
        raise error

    monkeypatch.setattr(mace_tp.cli.md, "simulate", ending)
    outcome = run("md", finished[0], toys / "test.xyz", *FLAGS, "--out", tmp_path / "run")
    assert outcome.code == code and "10 steps of 0.1 fs" in outcome.out
    assert (tmp_path / "run" / "energies.png").stat().st_size > 5_000


def test_a_drift_is_told_only_where_the_energy_is_conserved(run, finished, toys, tmp_path, monkeypatch):
    titles: list[str] = []
    monkeypatch.setattr(mace_tp.cli.md, "draw_run", lambda samples, num_atoms, title, path: titles.append(title))
    outcomes = [run("md", finished[0], toys / "test.xyz", *FLAGS, "--ensemble", name, "--out", tmp_path / name) for name in ("nve", "nvt")]
    assert ["energy: drift" in text for text in (*titles, *(outcome.out for outcome in outcomes))] == [True, False, True, False]


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--steps", "0"), "--steps 0: must be positive"),
        (("--timestep", "nan"), "--timestep nan: must be positive"),
        (("--ensemble", "npt"), "ensemble npt: needs a structure that is periodic in all three directions"),
        (("--ensemble", "npt", "--pressure", "nan"), "--pressure nan: must be a finite number"),
        (("--seed", "-1"), "--seed -1: must be 0 or larger"),
        (("--keep-velocities",), "test.xyz frame 0: has no velocities; leave --keep-velocities out"),
        (("--frame", "99"), "has no frame 99; frames count from 0"),
    ],
)
def test_flags_that_cannot_be_used_are_named(flags, message, run, finished, toys, tmp_path):
    assert_one_line(run("md", finished[0], toys / "test.xyz", *flags, "--out", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


def test_files_that_cannot_be_used_are_named(run, finished, toys, tmp_path, dynamics):
    broken = {"text.xyz": "not a structure\n", "bad.cif": "data_x\n_cell_length_a foo\n", "POSCAR": "junk\n1\n", "bad.vasp": "junk\n",
              "bad.xsf": "CRYSTAL\n", "bad.db": "junk", "OUTCAR": "junk\nmore\n"}  # fmt: skip
    for name, text in broken.items():
        (tmp_path / name).write_text(text)
    ase.io.write(tmp_path / "empty.xyz", ase.Atoms(), format="extxyz")
    messages = {"none.xyz": "no such file", "empty.xyz": "frame 0: has no atoms"} | dict.fromkeys(broken, "ASE cannot read it")
    for structure, message in messages.items():
        assert_one_line(run("md", finished[0], tmp_path / structure, "--out", tmp_path / "run"), message)
    ase.io.write(tmp_path / "silicon.xyz", ase.Atoms("Si2", [[0, 0, 0], [2, 0, 0]]))
    assert_one_line(run("md", finished[0], tmp_path / "silicon.xyz", "--out", tmp_path / "run"), "element Si is not one of the model's")
    assert_one_line(run("md", finished[0], toys / "test.xyz", "--out", dynamics[1]), "is there already; give a new folder")
    assert_one_line(run("md", tmp_path, toys / "test.xyz", "--out", tmp_path / "other"), "no model here")
