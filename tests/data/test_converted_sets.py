"""`scripts/convert_data_set.py`: files of SPICE and rMD17 become extended XYZ in eV, with forces against the gradient."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import read_configurations

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert_data_set.py"
KCAL = 0.0433641042  # eV
NUMBERS, COORDS = np.array([8, 1]), np.array([[[0.0, 0, 0], [0.96, 0, 0]], [[0.0, 0, 0], [1.0, 0.1, 0]], [[0.0, 0, 0], [1.1, 0, 0.2]]])
ENERGIES, FORCES = np.array([-100.0, -101.0, -102.0]), np.arange(18.0).reshape(3, 2, 3)


def convert(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_rmd17_becomes_the_published_split_in_eV(tmp_path):
    np.savez(tmp_path / "water.npz", nuclear_charges=NUMBERS, coords=COORDS, energies=ENERGIES, forces=FORCES)
    (tmp_path / "split.csv").write_text("2\n0\n")

    convert("rmd17", tmp_path / "water.npz", tmp_path / "train.extxyz", "--split", tmp_path / "split.csv").check_returncode()

    train = read_configurations(tmp_path / "train.extxyz", LabelKeys())
    assert [frame.energy for frame in train] == pytest.approx([-102 * KCAL, -100 * KCAL], rel=1e-7)
    np.testing.assert_allclose(train[0].forces, FORCES[2] * KCAL, rtol=1e-6)
    np.testing.assert_allclose(train[1].positions, COORDS[0], atol=1e-7)


@pytest.mark.parametrize("index", [3, -1])
def test_a_split_beyond_the_frames_is_refused(index, tmp_path):
    np.savez(tmp_path / "water.npz", nuclear_charges=NUMBERS, coords=COORDS, energies=ENERGIES, forces=FORCES)
    (tmp_path / "split.csv").write_text(f"{index}\n")

    done = convert("rmd17", tmp_path / "water.npz", tmp_path / "train.extxyz", "--split", tmp_path / "split.csv")

    assert done.returncode == 1 and f"has the index {index}; " in done.stderr


def test_spice_becomes_eV_with_forces_against_the_gradient(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "spice.hdf5", "w") as file:
        group = file.create_group("water")
        group["atomic_numbers"], group["subset"] = NUMBERS, ["Some subset"]
        group["conformations"], group["dft_total_energy"] = COORDS, [-76.0, -76.1, np.nan]
        group["dft_total_gradient"] = FORCES

    convert("spice", tmp_path / "spice.hdf5", tmp_path / "spice.extxyz").check_returncode()

    frames = read_configurations(tmp_path / "spice.extxyz", LabelKeys())
    assert len(frames) == 2, "a frame without a finite energy is left out"
    assert frames[0].energy == pytest.approx(-76 * 27.211386245988, rel=1e-8) and frames[0].config_type == "Some_subset"
    np.testing.assert_allclose(frames[1].positions, 0.529177210903 * COORDS[1], atol=1e-7)
    np.testing.assert_allclose(frames[1].forces, -27.211386245988 / 0.529177210903 * FORCES[1], rtol=1e-6)


def _water(folder):
    np.savez(folder / "water.npz", nuclear_charges=NUMBERS, coords=COORDS, energies=ENERGIES, forces=FORCES)
    for name, text in {"none.csv": "", "words.csv": "one\ntwo\n", "second.csv": "0\n9\n", "good.csv": "1\n"}.items():
        (folder / name).write_text(text)
    (folder / "damaged").write_bytes(b"\0" * 500)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("rmd17 watr.npz out.extxyz", "watr.npz: no such file"),
        ("rmd17 water.npz out.extxyz --split watr.csv", "watr.csv: no such file"),
        ("rmd17 water.npz water.npz", "water.npz: is the source; give another file for the output"),
        ("rmd17 water.npz good.csv --split good.csv", "good.csv: is the source; give another file for the output"),
        ("rmd17 damaged out.extxyz", "damaged: not a readable npz archive"),
        ("rmd17 water.npz out.extxyz --split words.csv", "words.csv: not one index of a frame on each line"),
        ("rmd17 water.npz out.extxyz --split second.csv", "second.csv: has the index 9; water.npz has 3 frames, counted from 0"),
        ("rmd17 water.npz out.extxyz --split none.csv", "none.csv: gives no frames; out.extxyz is not written"),
        ("rmd17 water.npz nowhere/out.extxyz", "nowhere/out.extxyz: cannot be written (No such file or directory)"),
        ("spice damaged out.extxyz", "damaged: damaged, or not a file of SPICE"),
        ("spice water.npz out.extxyz --split good.csv", "--split: is of rmd17"),
    ],
)
def test_a_mistake_is_one_line_and_changes_no_file(arguments, expected, tmp_path):
    if arguments.startswith("spice damaged"):
        pytest.importorskip("h5py")
    _water(tmp_path)
    (tmp_path / "out.extxyz").write_text("an older conversion")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    done = subprocess.run([sys.executable, SCRIPT, *arguments.split()], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1 and done.stderr.startswith(expected) and done.stderr.count("\n") == 1, done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("content", "expected"), [({}, "gives no frames"), ({"water/subset": [b"A"]}, "damaged, or not a file of SPICE")])
def test_spice_without_frames_leaves_nothing(content, expected, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "spice.hdf5", "w") as file:
        for name, value in content.items():
            file[name] = value

    done = convert("spice", tmp_path / "spice.hdf5", tmp_path / "out.extxyz")

    assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spice.hdf5"]


def test_a_missing_h5py_is_named(tmp_path):
    (tmp_path / "h5py.py").write_text("raise ImportError")
    (tmp_path / "spice.hdf5").touch()
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    command = [sys.executable, SCRIPT, "spice", tmp_path / "spice.hdf5", tmp_path / "out.extxyz"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1 and done.stderr == "SPICE is HDF5, which needs h5py: pip install h5py\n"
