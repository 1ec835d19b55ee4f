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
from mace_tp.evaluation.evaluate import short_names
from mace_tp.graph import sum_over_graphs
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import load_model


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
        assert files[path].keys() == expected.keys() | {"per_element", "per_config_type", "worst"}
        for name, value in expected.items():
            assert files[path][name] == pytest.approx(value, rel=1e-6), (path, name)


def test_terminal_shows_a_line_per_file(evaluated, toys):
    lines = evaluated[1].out.splitlines()
    errors = json.loads((evaluated[0] / "out.json").read_text())["files"][f"{toys}/test.xyz"]

    assert "dtype float64" in lines[0] and lines[1].startswith("compiling the evaluation for up to ")
    [line] = [line for line in lines if line.startswith(f"{toys}/test.xyz ")]
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

    predicted = jax.jit(make_predict(model.graphdef))(model.params, batch)

    zero = sum_over_graphs(np.asarray(statistics.atomic_energies)[batch.species], jax.tree.map(np.asarray, batch))
    frames = ase.io.read(evaluated[0] / "out.extxyz", ":6")
    np.testing.assert_allclose([frame.info["MACE_energy"] for frame in frames], (predicted.energy + zero)[:6], rtol=1e-12)
    forces = np.concatenate([frame.arrays["MACE_forces"] for frame in frames])
    assert np.abs(forces).max() > 1e-2
    np.testing.assert_allclose(forces, predicted.forces[: len(forces)], atol=1e-8)  # the file has 8 decimals


def test_plots_are_drawn_for_each_file(evaluated):
    names = {path.name for path in (evaluated[0] / "plots").iterdir()}

    pictures = ("parity_energy", "parity_forces", "parity_elements", "errors")
    assert names == {f"{picture}_{name}.png" for picture in pictures for name in ("test", "valid")}


def test_plots_of_files_of_one_name_do_not_replace_each_other():
    paths = ["a/md.300K.xyz", "a/md.600K.xyz.gz", "b/md.300K.xyz", "b/valid.npz"]

    assert list(short_names(paths).values()) == ["md.300K", "md.600K", "md.300K_2", "valid"]


def test_crystals_get_a_stress(finished, run, toys, tmp_path, make_crystal):
    path = make_crystal(tmp_path / "crystal.xyz")

    outcome = run("evaluate", finished[0], path, "--predictions", tmp_path / "out.extxyz")

    assert outcome.code == 0, outcome.err
    assert "S MAE" in outcome.out
    [frame] = ase.io.read(tmp_path / "out.extxyz", ":")
    differences = frame.info["MACE_stress"].reshape(3, 3) - frame.get_stress(voigt=False)
    assert np.any(frame.info["MACE_stress"])
    [line] = [line for line in outcome.out.splitlines() if line.startswith(f"{path} ")]
    assert float(line.split()[-2]) == pytest.approx(1000 * np.abs(differences).mean(), abs=0.01)


def test_single_precision_is_near(evaluated, run, toys, tmp_path):
    outcome = run("evaluate", evaluated[0] / "moved", toys / "test.xyz", "--dtype", "float32", "--json", tmp_path / "out.json")

    assert outcome.code == 0 and "dtype float32" in outcome.out
    double, single = (json.loads((folder / "out.json").read_text())["files"][f"{toys}/test.xyz"] for folder in (evaluated[0], tmp_path))
    assert single != double
    for name in ("energy_mae", "energy_rmse", "energy_rmse_per_config", "force_mae", "force_rmse"):
        assert single[name] == pytest.approx(double[name], rel=1e-4), name


@pytest.fixture(scope="module")
def mixed(evaluated, run, toys, tmp_path_factory):
    """A file as people have them, evaluated: isolated atoms first, two types, labels under keys of its own, one frame without an energy."""
    folder = tmp_path_factory.mktemp("mixed")
    frames = ase.io.read(toys / "isolated.xyz", ":") + ase.io.read(toys / "test.xyz", ":")
    for number, frame in enumerate(frames):
        frame.info |= {"REF_energy": frame.get_potential_energy(), "dft": {"code": "EMT", "number": number}}
        frame.arrays |= {"REF_forces": frame.get_forces(), "fragment": np.arange(len(frame)) % 2}
        frame.calc = None
        if number in (4, 7):
            frame.info["config_type"] = "far"
    del frames[5].info["REF_energy"]
    ase.io.write(folder / "mixed.xyz", frames)
    outcome = run(
        "evaluate", evaluated[0] / "moved", folder / "mixed.xyz", "--energy-key", "REF_energy", "--forces-key", "REF_forces",
        "--predictions", folder / "out.extxyz", "--json", folder / "out.json", "--worst", "1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return folder, outcome


def _energy_errors(frames: list[ase.Atoms]) -> np.ndarray:
    """Return the errors in a file of predictions [frames], meV/atom; NaN where there is no label."""
    labels = [frame.info.get("REF_energy", np.nan) for frame in frames]
    return np.array([1000 * (frame.info["MACE_energy"] - label) / len(frame) for frame, label in zip(frames, labels, strict=True)])


def _force_errors(frames: list[ase.Atoms]) -> list[np.ndarray]:
    """Return the errors in a file of predictions, meV/Å."""
    return [1000 * (frame.arrays["MACE_forces"] - frame.arrays["REF_forces"]) for frame in frames]


def test_json_breaks_errors_down_by_element_and_type(mixed):
    frames = ase.io.read(mixed[0] / "out.extxyz", ":")
    energies, forces = _energy_errors(frames), np.concatenate(_force_errors(frames))
    numbers = np.concatenate([frame.numbers for frame in frames])

    content = json.loads((mixed[0] / "out.json").read_text())

    [found] = content["files"].values()
    assert list(found["per_element"]) == ["H", "C", "O"]
    for name, number in (("H", 1), ("C", 6), ("O", 8)):
        own = forces[numbers == number]
        expected = {"num_atoms": len(own), "force_mae": np.abs(own).mean(), "force_rmse": np.sqrt(np.mean(own**2))}
        assert found["per_element"][name] == pytest.approx(expected, rel=1e-5)
    assert {name: errors["num_configs"] for name, errors in found["per_config_type"].items()} == {"far": 2, "none": 4}
    rest = np.array([frame.info.get("config_type") != "far" for frame in frames])
    assert found["per_config_type"]["none"]["energy_mae"] == pytest.approx(np.nanmean(abs(energies[rest])), rel=1e-5)
    assert found["per_config_type"]["far"]["energy_mae"] == pytest.approx(np.mean(abs(energies[~rest])), rel=1e-5)
    assert (content["units"]["force_rmse"], content["units"]["energy_error"]) == ("meV/Å", "meV/atom")


def test_ase_reads_the_worst_configurations_by_their_indices(mixed):
    frames = ase.io.read(mixed[0] / "out.extxyz", ":")
    energies, forces = _energy_errors(frames), _force_errors(frames)

    [found] = json.loads((mixed[0] / "out.json").read_text())["files"].values()

    sizes = [np.sqrt(np.mean(force**2)) for force in forces]
    assert [bad["force_rmse"] for bad in found["worst"]["forces"]] == pytest.approx(sorted(sizes, reverse=True), rel=1e-5)
    assert len(found["worst"]["energy"]) == 5, "one of the six has no energy"
    largest = np.nanargmax(abs(energies))
    assert found["worst"]["energy"][0]["energy_error"] == pytest.approx(energies[largest], rel=1e-5)
    for bad in found["worst"]["forces"] + found["worst"]["energy"]:
        frame = ase.io.read(bad["file"], bad["frame"])
        assert frame.get_chemical_formula() == bad["formula"]
        assert bad["frame"] == frame.info["dft"]["number"] >= 3, "isolated atoms count"
        number = bad["frame"] - 3
        assert bad["force_rmse"] == pytest.approx(sizes[number], rel=1e-5)


def test_terminal_shows_tables_of_elements_and_types_and_as_many_of_the_worst_as_wanted(mixed):
    words = [line.split() for line in mixed[1].out.splitlines()]
    [found] = json.loads((mixed[0] / "out.json").read_text())["files"].values()

    oxygen, far = found["per_element"]["O"], found["per_config_type"]["far"]
    assert ["O", "6", f"{oxygen['force_mae']:.2f}", f"{oxygen['force_rmse']:.2f}"] in words
    assert ["far", "2", *(f"{far[name]:.2f}" for name in list(far)[1:])] in words
    worst = found["worst"]["forces"][0]
    assert [f"{worst['force_rmse']:.2f}", "frame", str(worst["frame"]), worst["formula"], worst["config_type"]] in words
    assert len([line for line in words if "frame" in line]) == 2


def test_labels_and_predictions_stand_side_by_side_and_nothing_is_lost(mixed):
    """Under the names that the file has, also those of labels."""
    given = ase.io.read(mixed[0] / "mixed.xyz", "3:")

    frames = ase.io.read(mixed[0] / "out.extxyz", ":")

    for frame, before in zip(frames, given, strict=True):
        assert frame.info == before.info | {"MACE_energy": frame.info["MACE_energy"]}
        assert frame.arrays.keys() == before.arrays.keys() | {"MACE_forces"}
        for name, values in before.arrays.items():
            np.testing.assert_array_equal(frame.arrays[name], values)


def test_one_type_needs_no_table(evaluated):
    assert "  element " in evaluated[1].out and "config_type" not in evaluated[1].out


def test_a_label_under_the_name_of_a_prediction_is_refused(evaluated, run, toys, tmp_path):
    outcome = run("evaluate", evaluated[0] / "moved", toys / "test.xyz", "--energy-key", "MACE_energy", "--predictions", tmp_path / "o.xyz")

    assert outcome.code == 2 and "--energy-key MACE_energy" in outcome.err


def test_files_without_labels_can_be_predicted(evaluated, run, toys, tmp_path):
    frames = ase.io.read(toys / "test.xyz", ":")
    for frame in frames:
        frame.calc = None
    ase.io.write(tmp_path / "bare.xyz", frames)

    outcome = run(
        "evaluate", evaluated[0] / "moved", tmp_path / "bare.xyz", "--predictions", tmp_path / "out.extxyz", "--plots", tmp_path / "plots"
    )

    assert outcome.code == 0, outcome.err
    assert "plots: none, because nothing is labelled" in outcome.out and not (tmp_path / "plots").exists()
    assert [frame.info["MACE_energy"] for frame in ase.io.read(tmp_path / "out.extxyz", ":")] == [
        frame.info["MACE_energy"] for frame in ase.io.read(evaluated[0] / "out.extxyz", ":6")
    ]


def test_a_new_process_keeps_float64(evaluated, toys):
    """Here float64 is on already; in a process of its own the model has to switch it on."""
    model = str(evaluated[0]) + "/moved"
    dtypes = f"{{leaf.dtype for leaf in jax.tree.leaves(load_model({model!r}).params)}}"
    code = f"from mace_tp.model.saved_model import load_model; import jax; print({dtypes})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=Path.home())

    assert done.stdout.strip() == "{dtype('float64')}", done.stderr
