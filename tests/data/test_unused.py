"""Second labels and columns that no model sees are told once; other names in a file are nobody's concern."""

import ase
import ase.io
import numpy as np
import pytest
from toy_data import molecules

from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import read_configurations
from mace_tp.data.unused import ignored_states, second_labels


def _read(tmp_path, frames, keys=None):
    ase.io.write(tmp_path / "a.xyz", frames)
    return read_configurations(tmp_path / "a.xyz", keys or LabelKeys())


@pytest.mark.parametrize("form", ["REF_{}", "DFT_{}", "dft_{}", "r2scan_{}", "MP2/TZ_{}", "{}_pbe"])
def test_labels_of_a_second_method_are_told(tmp_path, form, caplog):
    frames = molecules(4, seed=0)
    for frame in frames[1:]:
        frame.info[form.format("energy")] = frame.calc.results["energy"] + 3.0
        frame.arrays[form.format("forces")] = 2 * frame.calc.results["forces"]

    _read(tmp_path, frames)
    first = caplog.text
    caplog.clear()
    _read(tmp_path, frames, LabelKeys(form.format("energy"), form.format("forces")))

    for field in ("energy", "forces"):
        other = form.format(field)
        said = f"has both {field} and {other}; {field} is used (data.{field}_key={other} for the other); they differ in 3 of 4 frames"
        assert said in first
    assert "has both" not in caplog.text, "who names a key knows of the other"


def test_a_second_stress_is_told_in_either_form():
    stress = np.arange(6.0)
    matrix = stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    labels = {"energy": 0.0, "forces": np.ones((2, 3)), "stress": stress, "DFT_energy": 0.0, "DFT_forces": np.ones((2, 3))}

    def found(other):
        return second_labels([(labels | {"DFT_stress": other},)], LabelKeys())

    assert found(matrix) == found(matrix.ravel()) == found(stress) == found(np.ones(4)) == []
    assert found(2 * matrix) == found(2 * matrix.ravel()) == found(2 * stress) == [("stress", "stress", "DFT_stress", 1)]


def test_one_value_in_two_forms_is_one(tmp_path):
    frames = molecules(4, seed=0)
    frames[0].info |= {"charge": 0.0, "electric_field": np.zeros(3)}
    frames[1].info |= {"charge": -0.0}
    assert ignored_states(_read(tmp_path, frames)) == []


def test_a_copy_of_the_labels_and_other_energies_are_not_told():
    energy, forces = -1.5, np.ones((2, 3))
    copy = {"REF_energy": energy + 1e-6, "REF_forces": forces}
    other = {"free_energy": -1.6, "atomization_energy": 3.0, "energy_per_atom": 0.5, "DFT_energy": "unknown", "dft_forces": forces[:1]}
    other |= {"MACE_energy": -1.4, "MACE_forces": 2 * forces}
    places = ({"energy": energy, "forces": forces}, {**copy, **other}, {"energies": np.ones(2)})
    assert second_labels([places], LabelKeys()) == []


def test_columns_that_no_model_sees_are_told_where_frames_differ(tmp_path):
    frames = molecules(6, seed=0)
    for index, frame in enumerate(frames):
        frame.info |= {"head": ("pbe", "r2scan")[index % 2], "spin": 1, "config_type": f"type {index}", "temperature": 100.0 * index}
        if index % 3 == 0:
            frame.info["charge"] = index / 3
    (said,) = ignored_states(_read(tmp_path, frames))
    assert said.startswith("a model does not see charge (0 in 5, 1 in 1), head (pbe in 3, r2scan in 3): frames that differ")
    assert ignored_states(_read(tmp_path, frames[::2])) == []


def test_many_values_are_counted(tmp_path):
    frames = molecules(6, seed=0)
    for index, frame in enumerate(frames):
        frame.info["electric_field"] = np.array([0.0, 0.0, index])
    assert ignored_states(_read(tmp_path, frames))[0].count(" in 1") == 4
    assert "2 other values" in ignored_states(_read(tmp_path, frames))[0]
