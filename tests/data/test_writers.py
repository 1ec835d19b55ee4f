"""What a file holds is written again, under its own names, with the predictions beside it."""

import errno
import json

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mace_tp.data.configuration import Configuration, FileFrame, LabelKeys
from mace_tp.data.readers import read_configurations
from mace_tp.data.writers import write_predictions
from mace_tp.errors import InputError


def _full_frame() -> ase.Atoms:
    """A crystal with one of everything that a file can hold."""
    rng = np.random.default_rng(0)
    atoms = bulk("CO", "rocksalt", a=3.6) * (2, 1, 1)
    count = len(atoms)
    atoms.info = {
        "REF_energy": -3.25,
        "config_type": "two words",
        "label": "a=b",
        "flag": True,
        "number": 7,
        "row": np.array([1.0, 2.0, 3.0]),
    }
    atoms.info |= {"matrix": rng.normal(size=(2, 2)), "virial": np.diag([1.0, 2.0, 3.0]), "nested": {"a": [1, 2]}}
    atoms.arrays["REF_forces"] = rng.normal(size=(count, 3))
    atoms.arrays |= {"words": np.array(["aa", "b", "c", "dd"]), "counts": np.arange(count), "mask": np.arange(count) % 2 == 0}
    atoms.set_momenta(rng.normal(size=(count, 3)))
    atoms.set_tags([1, 2, 3, 4])
    atoms.set_constraint(FixAtoms([0]))
    results = {"energy": -1.0, "free_energy": -1.1, "forces": rng.normal(size=(count, 3)), "stress": np.arange(6) / 7, "dipole": np.ones(3)}
    atoms.calc = SinglePointCalculator(atoms, **results, magmoms=np.arange(count) / 10)
    return atoms


def _write(path, configurations) -> None:
    forces = [np.full((configuration.num_atoms, 3), 0.125) for configuration in configurations]
    write_predictions(path, configurations, [-2.5] * len(forces), forces, [np.diag([0.1, 0.2, 0.3])] * len(forces))


@pytest.mark.parametrize("name", ["a.extxyz", "a.traj"])
def test_everything_in_a_frame_is_written_beside_the_predictions(tmp_path, name):
    ase.io.write(tmp_path / name, _full_frame())
    before = ase.io.read(tmp_path / name)

    _write(tmp_path / "out.extxyz", read_configurations(tmp_path / name, LabelKeys("REF_energy", "REF_forces")))

    after = ase.io.read(tmp_path / "out.extxyz")
    assert after.info.keys() == before.info.keys() | {"MACE_energy", "MACE_stress"}
    assert after.arrays.keys() == before.arrays.keys() | {"MACE_forces"}
    for key, value in before.info.items():
        assert np.all(np.asarray(after.info[key]) == np.asarray(value)), key
    for key, values in before.arrays.items():
        assert np.array_equal(after.arrays[key], values) or np.abs(after.arrays[key] - values).max() < 1e-8, key
    assert after.calc.results.keys() == before.calc.results.keys()
    for key, value in before.calc.results.items():
        np.testing.assert_allclose(after.calc.results[key], value, atol=1e-8, err_msg=key)  # the file has 8 decimals
    assert [constraint.todict() for constraint in after.constraints] == [constraint.todict() for constraint in before.constraints]
    assert after.info["MACE_energy"] == -2.5
    np.testing.assert_array_equal(after.arrays["MACE_forces"], 0.125)
    np.testing.assert_array_equal(after.info["MACE_stress"], np.diag([0.1, 0.2, 0.3]).ravel())


def test_a_stress_is_written_as_labels_are_and_read_by_ase_and_by_us(tmp_path):
    ase.io.write(tmp_path / "a.xyz", _full_frame())

    _write(tmp_path / "out.extxyz", read_configurations(tmp_path / "a.xyz", LabelKeys()))

    assert 'MACE_stress="0.1 0.0 0.0 0.0 0.2 0.0 0.0 0.0 0.3"' in (tmp_path / "out.extxyz").read_text()
    np.testing.assert_array_equal(ase.io.read(tmp_path / "out.extxyz").info["MACE_stress"], np.diag([0.1, 0.2, 0.3]).ravel())
    [configuration] = read_configurations(tmp_path / "out.extxyz", LabelKeys(stress="MACE_stress"))
    np.testing.assert_array_equal(configuration.stress, np.diag([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("name", ["out.extxyz", "out.xyz.gz"])
def test_predictions_are_complete_or_as_they_were(tmp_path, name, monkeypatch):
    ase.io.write(tmp_path / "a.xyz", [_full_frame()] * 2)
    configurations = read_configurations(tmp_path / "a.xyz", LabelKeys())
    _write(tmp_path / name, configurations)
    before = (tmp_path / name).read_bytes()
    assert len(read_configurations(tmp_path / name, LabelKeys())) == 2
    write = ase.io.write

    def full(path, frames, format):
        write(path, frames[:1], format=format)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ase.io, "write", full)
    with pytest.raises(InputError, match="cannot be written .No space left on device"):
        _write(tmp_path / name, configurations)

    assert (tmp_path / name).read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_earlier_predictions_are_replaced_and_do_not_stay_behind(tmp_path):
    """A molecule gets no stress, also where an earlier model gave one."""
    atoms = _full_frame()
    atoms.info |= {"MACE_energy": 1.0, "MACE_stress": np.eye(3)}
    ase.io.write(tmp_path / "a.xyz", atoms)
    [configuration] = read_configurations(tmp_path / "a.xyz", LabelKeys())

    write_predictions(tmp_path / "out.xyz", [configuration], [-2.5], [np.zeros((4, 3))], [None])

    after = ase.io.read(tmp_path / "out.xyz", format="extxyz")
    assert after.info["MACE_energy"] == -2.5 and "MACE_stress" not in after.info


def test_values_of_several_axes_for_each_atom_become_columns(tmp_path):
    """Born charges [atoms, 3, 3], which extended XYZ has no place for."""
    atoms = bulk("CO", "rocksalt", a=3.6)
    charges = np.arange(18.0).reshape(2, 3, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, born_effective_charges=charges)
    ase.io.write(tmp_path / "a.traj", atoms)

    _write(tmp_path / "out.extxyz", read_configurations(tmp_path / "a.traj", LabelKeys()))

    results = ase.io.read(tmp_path / "out.extxyz").calc.results
    np.testing.assert_array_equal(np.ravel(results["born_effective_charges"]), charges.ravel())


def test_archives_get_their_labels_under_names_of_ase(tmp_path):
    labels = {"energies": np.array([-23.0, -46.0]), "forces": np.random.default_rng(0).normal(size=(2, 3, 3))}
    np.savez(tmp_path / "a.npz", nuclear_charges=[8, 1, 1], coords=np.random.default_rng(1).normal(size=(2, 3, 3)), **labels)
    configurations = read_configurations(tmp_path / "a.npz", LabelKeys())

    _write(tmp_path / "out.extxyz", configurations)

    assert [(configuration.frame.path, configuration.frame.index) for configuration in configurations] == [
        (f"{tmp_path}/a.npz", 0),
        (f"{tmp_path}/a.npz", 1),
    ]
    for frame, configuration in zip(ase.io.read(tmp_path / "out.extxyz", ":"), configurations, strict=True):
        assert frame.get_potential_energy() == pytest.approx(configuration.energy, abs=1e-8)
        np.testing.assert_allclose(frame.get_forces(), configuration.forces, atol=1e-8)


def test_configurations_that_no_file_holds_get_their_labels_under_names_of_ase(tmp_path, make_configuration):
    configuration = make_configuration(config_type="bent", forces=np.full((3, 3), 0.5))

    _write(tmp_path / "out.extxyz", [configuration])

    frame = ase.io.read(tmp_path / "out.extxyz")
    assert frame.get_potential_energy() == -14.0 and frame.info["config_type"] == "bent"
    np.testing.assert_array_equal(frame.get_forces(), 0.5)


SPOILING = {
    "line break": "two\nlines", "return": "two\rlines", "empty": "", "backslash": "C:\\new \\", "quote": 'say "a" \'b\'', "number": "1.50",
    "true": "T", "none": None, "no numbers": np.zeros(0), "no list": [], "unicode": "Å\u2028µ", "surrogate": "\udc80",
    "looks like JSON": "_JSON [", "nested": {"a": np.arange(3), "b": [np.int64(1), None]}, "key = \"x\"": 1.0, "line\nkey": 1.0,
    "virial": np.arange(6.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILING)
def test_values_that_spoil_a_line_of_extended_xyz_are_read_back(tmp_path, name, caplog):
    """Nothing else is lost either: an empty value takes the next key with it."""
    value = SPOILING[name]
    atoms = _full_frame()
    atoms.info = {"before": 1.5, name: value, "after": "two words"}
    configuration = Configuration(
        atoms.numbers, atoms.positions, atoms.cell[:], (True,) * 3, -1.0, None, None, "", "memory frame 0",
        FileFrame("", 0, atoms.calc.results, atoms.info, {}, ()),
    )  # fmt: skip

    _write(tmp_path / "out.extxyz", [configuration, configuration])

    for read in (ase.io.read(tmp_path / "out.extxyz", ":"), [c.frame for c in read_configurations(tmp_path / "out.extxyz", LabelKeys())]):
        assert len(read) == 2
        for frame in read:
            assert frame.info["before"] == 1.5 and frame.info["after"] == "two words" and frame.info["MACE_energy"] == -2.5
    assert read_configurations(tmp_path / "out.extxyz", LabelKeys())[1].energy == -1.0
    assert len((tmp_path / "out.extxyz").read_text(encoding="utf-8").splitlines()) == 2 * (len(atoms) + 2)
    if "\n" in name:
        assert f"cannot hold {name!r}" in caplog.text
    else:
        found = ase.io.read(tmp_path / "out.extxyz").info[name]
        expected = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]]) if name == "virial" else value
        ours, theirs = (json.dumps(item, default=lambda array: array.tolist()) for item in (found, expected))
        assert ours == theirs or np.all(found == expected)


@pytest.mark.parametrize(
    "values, is_kept",
    [
        (np.array(["a b", "", "c", "d"]), True),
        (np.arange(4, dtype=np.uint8), True),
        (np.arange(4) * 10**12, True),
        (np.zeros((4, 0)), True),
        (np.arange(4) * 1j, False),
    ],
    ids=["blanks", "unsigned", "large", "no columns", "complex"],
)
def test_columns_that_extended_xyz_cannot_hold_are_read_back_or_named(tmp_path, values, is_kept, caplog):
    atoms = _full_frame()
    configuration = Configuration(
        atoms.numbers, atoms.positions, atoms.cell[:], (True,) * 3, -1.0, None, None, "", "memory frame 0",
        FileFrame("", 0, atoms.calc.results, {}, {"odd": values, "REF_forces": atoms.arrays["REF_forces"]}, ()),
    )  # fmt: skip

    _write(tmp_path / "out.extxyz", [configuration])

    frame = ase.io.read(tmp_path / "out.extxyz")
    np.testing.assert_allclose(frame.arrays["REF_forces"], atoms.arrays["REF_forces"], atol=1e-7)
    np.testing.assert_allclose(frame.get_forces(), atoms.get_forces(apply_constraint=False), atol=1e-7)
    if is_kept:
        np.testing.assert_array_equal(frame.info.get("odd", frame.arrays.get("odd")), values)
    assert ("memory frame 0: extended XYZ cannot hold 'odd'" in caplog.text) == (not is_kept)
