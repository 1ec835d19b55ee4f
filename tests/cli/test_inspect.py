"""`mace-tp inspect`: what is in files, and what is wrong with them, without a training."""

import numpy as np
from toy_data import molecules, write


def test_files_are_described(run, toys):
    outcome = run("inspect", toys / "train.xyz", toys / "test.xyz", "--isolated-atoms", toys / "isolated.xyz")

    assert outcome.code == 0, outcome.err
    assert f"{toys}/train.xyz: keys energy, forces" in outcome.out
    assert f"{toys}/train.xyz: 10 configurations" in outcome.out and f"{toys}/test.xyz: 6 configurations" in outcome.out
    for said in ("atomic energies E0 (isolated atoms)", "labels: energy in all, forces in all", "neighbors per atom (", "are padding"):
        assert said in outcome.out
    assert outcome.out.rstrip().endswith("nothing looks wrong")


def test_what_is_wrong_is_listed(run, toys, tmp_path):
    frames = molecules(6, seed=5)
    frames[2].calc.results["energy"] = np.nan
    path = write(tmp_path / "frames.xyz", [*frames, frames[0]])

    outcome = run("inspect", path, toys / "train.xyz", "--isolated-atoms", toys / "isolated.xyz")

    assert outcome.code == 0, outcome.err
    assert "1 frames skipped, 6 used" in outcome.out and "frame 2: energy holds nan" in outcome.out
    assert f"WARNING {path}: 1 of 6 structures occurs more than once" in outcome.out


def test_nothing_looks_wrong_is_not_said_after_a_warning(run, toys, tmp_path):
    frames = molecules(6, seed=5)
    for frame in frames:
        frame.info["REF_energy"] = frame.calc.results["energy"] + 1.0
    path = write(tmp_path / "frames.xyz", frames)

    outcome = run("inspect", path, "--isolated-atoms", toys / "isolated.xyz")

    assert f"WARNING {path}: has both energy and REF_energy" in outcome.out
    assert outcome.out.splitlines()[-1] == "nothing else looks wrong; see the warnings above"


def test_without_isolated_atoms_or_energies(run, toys, tmp_path):
    assert "least squares" in run("inspect", toys / "train.xyz").out
    frames = molecules(3, seed=0)
    for frame in frames:
        frame.calc = None
    assert "no energies, so E0s are zero" in run("inspect", write(tmp_path / "bare.xyz", frames)).out


def test_mistakes_are_one_line(run, tmp_path):
    (tmp_path / "OUTCAR").write_text("junk\nmore\n")
    for arguments in (["nothing.xyz"], ["nothing.xyz", "--cutoff", "-1"], [tmp_path / "OUTCAR"]):
        outcome = run("inspect", *arguments)
        assert outcome.code == 2 and outcome.err.count("\n") == 1
