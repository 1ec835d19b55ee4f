"""`mace-tp evaluate`: the errors of the training again, predictions beside the labels, and what else it writes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import jax
import numpy as np
import pytest

from mace_tp.data.batching import Bucket, pad_batch
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.graphs import build_graphs
from mace_tp.data.readers import read_configurations
from mace_tp.evaluation import short_names
from mace_tp.graph import sum_over_graphs
from mace_tp.saved_model import load_model
from mace_tp.training.step import make_predict


@pytest.fixture(scope="module")
def evaluated(finished, run, toys, tmp_path_factory):
    """A model that was moved, evaluated with everything that can be written: (folder with the files, what the terminal saw)."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(finished[0] / "model", folder / "moved")
    outcome = run(
        "evaluate", folder / "moved", toys / "test.xyz", toys / "valid.xyz",
        "--predictions", folder / "out.extxyz", "--json", folder / "out.json", "--plots", folder / "plots",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return folder, outcome


def test_errors_are_those_of_the_training(evaluated, finished, toys):
    files = json.loads((evaluated[0] / "out.json").read_text())["files"]
    trained = json.loads((finished[0] / "results.json").read_text())

    for path, expected in {f"{toys}/test.xyz": trained["test"][f"{toys}/test.xyz"], f"{toys}/valid.xyz": trained["valid"]}.items():
        assert files[path].keys() == expected.keys()
        for name, value in expected.items():
            assert files[path][name] == pytest.approx(value, rel=1e-6), (path, name)


def test_terminal_shows_a_line_per_file(evaluated, toys):
    lines = evaluated[1].out.splitlines()
    errors = json.loads((evaluated[0] / "out.json").read_text())["files"][f"{toys}/test.xyz"]

    assert "dtype float64" in lines[0]
    [line] = [line for line in lines if line.startswith(f"{toys}/test.xyz")]
    assert line.split()[1:] == ["6", *(f"{errors[name]:.2f}" for name in list(errors)[:5])]


def test_predictions_lie_beside_the_labels(evaluated, toys):
    frames = ase.io.read(evaluated[0] / "out.extxyz", ":")
    labelled = ase.io.read(toys / "test.xyz", ":") + ase.io.read(toys / "valid.xyz", ":")

    assert len(frames) == len(labelled) == 10
    for frame, label in zip(frames, labelled, strict=True):
        assert frame.get_chemical_symbols() == label.get_chemical_symbols()
        assert frame.get_potential_energy() == pytest.approx(label.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(frame.get_forces(), label.get_forces(), atol=1e-8)
        assert "MACE_stress" not in frame.info, "a molecule has none"


def test_predictions_are_the_models(evaluated, toys):
    model = load_model(evaluated[0] / "moved")
    statistics, cutoff = model.statistics, model.architecture.cutoff
    configurations = read_configurations(toys / "test.xyz", LabelKeys())
    graphs = build_graphs(configurations, statistics.atomic_numbers, statistics.atomic_energies, cutoff)
    batch = pad_batch(graphs, Bucket(nodes=40, edges=512, graphs=8, pairs=257), np.float64)

    predicted = jax.jit(make_predict(model.graphdef, cutoff))(model.params, batch)

    zero = sum_over_graphs(np.asarray(statistics.atomic_energies)[batch.species], jax.tree.map(np.asarray, batch))
    frames = ase.io.read(evaluated[0] / "out.extxyz", ":6")
    np.testing.assert_allclose([frame.info["MACE_energy"] for frame in frames], (predicted.energy + zero)[:6], rtol=1e-12)
    forces = np.concatenate([frame.arrays["MACE_forces"] for frame in frames])
    assert np.abs(forces).max() > 1e-2
    np.testing.assert_allclose(forces, predicted.forces[: len(forces)], atol=1e-8)  # the file has 8 decimals


def test_plots_are_drawn_for_each_file(evaluated):
    names = {path.name for path in (evaluated[0] / "plots").iterdir()}

    assert names == {f"parity_{quantity}_{name}.png" for quantity in ("energy", "forces") for name in ("test", "valid")}


def test_plots_of_files_of_one_name_do_not_replace_each_other():
    paths = ["a/md.300K.xyz", "a/md.600K.xyz.gz", "b/md.300K.xyz", "b/valid.npz"]

    assert list(short_names(paths).values()) == ["md.300K", "md.600K", "md.300K_2", "valid"]


def test_crystals_get_a_stress(finished, run, toys, tmp_path, make_crystal):
    path = make_crystal(tmp_path / "crystal.xyz")

    outcome = run("evaluate", finished[0], path, "--predictions", tmp_path / "out.extxyz")

    assert outcome.code == 0, outcome.err
    assert "S MAE" in outcome.out
    [frame] = ase.io.read(tmp_path / "out.extxyz", ":")
    differences = frame.info["MACE_stress"] - frame.get_stress(voigt=False)
    assert np.any(frame.info["MACE_stress"])
    assert float(outcome.out.splitlines()[-2].split()[-2]) == pytest.approx(1000 * np.abs(differences).mean(), abs=0.01)


def test_single_precision_is_near(evaluated, run, toys, tmp_path):
    outcome = run("evaluate", evaluated[0] / "moved", toys / "test.xyz", "--dtype", "float32", "--json", tmp_path / "out.json")

    assert outcome.code == 0 and "dtype float32" in outcome.out
    double, single = (json.loads((folder / "out.json").read_text())["files"][f"{toys}/test.xyz"] for folder in (evaluated[0], tmp_path))
    assert single != double
    for name, value in double.items():
        assert single[name] == pytest.approx(value, rel=1e-4), name


def test_files_without_labels_can_be_predicted(evaluated, run, toys, tmp_path):
    frames = ase.io.read(toys / "test.xyz", ":")
    for frame in frames:
        frame.calc = None
    ase.io.write(tmp_path / "bare.xyz", frames)

    outcome = run("evaluate", evaluated[0] / "moved", tmp_path / "bare.xyz", "--predictions", tmp_path / "out.extxyz")

    assert outcome.code == 0, outcome.err
    assert [frame.info["MACE_energy"] for frame in ase.io.read(tmp_path / "out.extxyz", ":")] == [
        frame.info["MACE_energy"] for frame in ase.io.read(evaluated[0] / "out.extxyz", ":6")
    ]


def test_a_new_process_keeps_float64(evaluated, toys):
    """Here float64 is on already; in a process of its own the model has to switch it on."""
    model = str(evaluated[0]) + "/moved"
    dtypes = f"{{leaf.dtype for leaf in jax.tree.leaves(load_model({model!r}).params)}}"
    code = f"from mace_tp.saved_model import load_model; import jax; print({dtypes})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=Path.home())

    assert done.stdout.strip() == "{dtype('float64')}", done.stderr
