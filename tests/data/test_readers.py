"""Labels are found wherever ASE puts them, in every file format, and in the right units."""

import ase
import ase.db
import ase.io
import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import label_keys, read_configurations, require_labels
from mace_tp.errors import InputError

STRESS = np.array([[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]]) / 100
VOIGT = np.array([1.0, 2.0, 3.0, 0.4, 0.5, 0.6]) / 100
FORCES = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])


def _hydrogen(energy: float = -31.5) -> ase.Atoms:
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=[8, 8, 8], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=FORCES, stress=VOIGT)
    return atoms


def _assert_labels(configuration):
    assert configuration.energy == -31.5
    np.testing.assert_array_equal(configuration.forces, FORCES)
    np.testing.assert_allclose(configuration.stress, STRESS, atol=1e-15)


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.xyz.gz", "a.extxyz.xz", "a.xyz.bz2", "a.traj", "a.db", "a.json"])
def test_every_format_gives_the_same_labels(tmp_path, name):
    ase.io.write(tmp_path / name, [_hydrogen(-1.0), _hydrogen()])

    first, second = read_configurations(tmp_path / name, LabelKeys())

    assert first.energy == -1.0
    _assert_labels(second)
    assert second.source == f"{tmp_path / name} frame 1"
    assert second.pbc == (True, True, True)


def test_labels_under_keys_of_the_file(tmp_path):
    atoms = _hydrogen()
    atoms.calc = None
    atoms.info |= {"REF_energy": -31.5, "REF_stress": STRESS, "config_type": "bulk"}
    atoms.arrays["REF_forces"] = FORCES
    ase.io.write(tmp_path / "a.xyz", atoms)

    configuration = read_configurations(tmp_path / "a.xyz", LabelKeys("REF_energy", "REF_forces", "REF_stress"))[0]

    _assert_labels(configuration)
    assert configuration.config_type == "bulk"


def test_label_under_a_key_of_a_database(tmp_path):
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(_hydrogen(), key_value_pairs={"dft_energy": -2.5})
    assert read_configurations(tmp_path / "a.db", LabelKeys(energy="dft_energy"))[0].energy == -2.5


@pytest.mark.parametrize("key", ["stress", "REF_stress"])
@pytest.mark.parametrize("numbers", [VOIGT, STRESS.ravel()], ids=["voigt", "nine"])
def test_stress_of_six_or_nine_numbers(tmp_path, key, numbers):
    text = " ".join(str(number) for number in numbers)
    (tmp_path / "a.xyz").write_text(f'1\nLattice="3 0 0 0 3 0 0 0 3" {key}="{text}" energy=1.0\nSi 0.0 0.0 0.0\n')

    configuration = read_configurations(tmp_path / "a.xyz", LabelKeys(stress=key))[0]

    np.testing.assert_allclose(configuration.stress, STRESS, atol=1e-15)


@pytest.mark.parametrize("numbers, message", [("1 2 3 4", "holds 4 numbers"), ("1 2 0 0 1 0 0 0 1", "not symmetric")])
def test_stress_that_is_none_is_an_error(tmp_path, numbers, message):
    (tmp_path / "a.xyz").write_text(f'1\nLattice="3 0 0 0 3 0 0 0 3" REF_stress="{numbers}"\nSi 0.0 0.0 0.0\n')
    with pytest.raises(InputError, match=f"frame 0: REF_stress .*{message}"):
        read_configurations(tmp_path / "a.xyz", LabelKeys(stress="REF_stress"))


@pytest.mark.parametrize("key", ["virial", "REF_virials"])
@pytest.mark.parametrize("form", ["six", "nine"])
def test_sign_of_a_virial_is_that_of_a_finite_strain(tmp_path, key, form):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.set_cell(atoms.cell @ [[1.03, 0.01, 0], [0, 1, 0], [0, 0, 0.99]], scale_atoms=True)

    def energy(strain: np.ndarray) -> float:
        strained = atoms.copy()
        strained.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
        strained.calc = EMT()
        return strained.get_potential_energy()

    directions = np.eye(9).reshape(9, 3, 3)
    strains = [1e-5 * (direction + direction.T) / 2 for direction in directions]
    virial = -np.array([(energy(strain) - energy(-strain)) / 2e-5 for strain in strains]).reshape(3, 3)
    atoms.info[key] = virial if form == "nine" else virial.ravel()[[0, 4, 8, 5, 2, 1]]
    ase.io.write(tmp_path / "a.xyz", atoms)
    atoms.calc = EMT()

    read = read_configurations(tmp_path / "a.xyz", LabelKeys(stress=key))[0]

    np.testing.assert_allclose(read.stress, atoms.get_stress(voigt=False), atol=1e-8)
    assert np.abs(read.stress).max() > 0.01


def test_virial_without_a_volume_is_an_error(tmp_path):
    (tmp_path / "a.xyz").write_text('1\nvirial="1 0 0 0 1 0 0 0 1"\nSi 0.0 0.0 0.0\n')
    with pytest.raises(InputError, match="frame 0: virial is a virial, but the cell has no volume"):
        read_configurations(tmp_path / "a.xyz", LabelKeys(stress="virial"))


def test_forces_of_another_shape_are_an_error(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nProperties=species:S:1:pos:R:3:f:R:2\nSi 0.0 0.0 0.0 1.0 2.0\n")
    with pytest.raises(InputError, match=r"frame 0: f has shape \[1, 2\]; forces on 1 atoms need \[1, 3\]"):
        read_configurations(tmp_path / "a.xyz", LabelKeys(forces="f"))


def test_key_decides_between_two_energies_and_says_so(tmp_path, caplog):
    atoms = _hydrogen()
    atoms.info["REF_energy"] = -7.0
    ase.io.write(tmp_path / "a.xyz", atoms)

    assert read_configurations(tmp_path / "a.xyz", LabelKeys())[0].energy == -31.5
    assert "has both energy and REF_energy; energy is used" in caplog.text
    caplog.clear()
    assert read_configurations(tmp_path / "a.xyz", LabelKeys(energy="REF_energy"))[0].energy == -7.0
    assert not caplog.text


def test_labels_found_nowhere_list_the_keys_that_are_there(tmp_path):
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    atoms.info["REF_energy"] = -7.0
    atoms.arrays["force"] = FORCES
    path = tmp_path / "a.xyz"
    ase.io.write(path, atoms)
    configurations = read_configurations(path, LabelKeys())

    assert label_keys(path) == ["REF_energy", "force"]
    require_labels(configurations, LabelKeys(), (), path)
    message = (
        "no frame has energy under the key 'energy' nor forces under the key 'forces'; keys there: REF_energy, force; "
        "set data.energy_key=REF_energy data.forces_key=force .*--energy-key REF_energy --forces-key force"
    )
    with pytest.raises(InputError, match=message):
        require_labels(configurations, LabelKeys(), ("energy", "forces"), path)
    with pytest.raises(InputError, match="no frame has forces .* set data.forces_key=force"):
        require_labels(configurations, LabelKeys(), ("forces",), path)
    with pytest.raises(InputError, match="no frame has stress under the key 'strss'"):
        require_labels(configurations, LabelKeys(stress="strss"), (), path)


def test_labels_that_are_not_looked_at_are_told_where_they_seem_to_be_there(tmp_path, caplog):
    """Whoever names the key of the energies alone would get no errors of the forces, and no word of it."""
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -7.0, FORCES
    ase.io.write(tmp_path / "a.xyz", atoms)

    for keys, count in ((LabelKeys(energy="REF_energy"), 1), (LabelKeys(energy="REF_energy", forces="REF_forces"), 0)):
        caplog.clear()
        require_labels(read_configurations(tmp_path / "a.xyz", keys), keys, (), tmp_path / "a.xyz")
        told = "no frame has forces under the key 'forces', so none is used; set data.forces_key=REF_forces"
        assert caplog.text.count(told) == count
        assert "stress" not in caplog.text


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virial", "REF_virials", "dft_virial", "DFT_virials", "REF_stress"])
@pytest.mark.parametrize("num_with_stress", [0, 2])
def test_a_stress_under_another_key_is_told_also_where_some_frames_lack_it(tmp_path, key, num_with_stress, caplog):
    frames = [_hydrogen() for _ in range(5)]
    for frame in frames[num_with_stress:]:
        del frame.calc.results["stress"]
        frame.info[key] = np.eye(3)
    ase.io.write(tmp_path / "a.xyz", frames)

    require_labels(read_configurations(tmp_path / "a.xyz", LabelKeys()), LabelKeys(), ("energy",), tmp_path / "a.xyz")

    if num_with_stress:
        told = f"3 of 5 frames have no stress under the key 'stress' but {key}, which is not used, first {tmp_path / 'a.xyz'} frame 2"
    else:
        told = f"no frame has stress under the key 'stress', so none is used; set data.stress_key={key}"
    assert told in caplog.text and len(caplog.records) == 1


def test_labels_may_be_missing_in_some_frames(tmp_path):
    path = tmp_path / "a.xyz"
    ase.io.write(path, [_hydrogen(), ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])])

    configurations = read_configurations(path, LabelKeys())

    require_labels(configurations, LabelKeys(), ("energy", "forces", "stress"), path)
    assert [configuration.energy for configuration in configurations] == [-31.5, None]


@pytest.mark.parametrize("name", ["a.traj", "a.db", "a.npz", "a.unknown"])
def test_damaged_file_of_any_format_is_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a structure")
    with pytest.raises(InputError, match=name):
        read_configurations(tmp_path / name, LabelKeys())


def _write_rmd17(path, **replaced):
    coords = np.arange(18.0).reshape(2, 3, 3)
    fields = {
        "nuclear_charges": np.array([8, 1, 1], np.uint8),
        "coords": coords,
        "energies": np.array([-10.0, -20.0]),
        "forces": coords / 10,
    }
    np.savez(path, **{name: array for name, array in (fields | replaced).items() if array is not None})


def test_rmd17_archive_is_in_kcal_per_mol(tmp_path):
    path = tmp_path / "rmd17_water.npz"
    _write_rmd17(path)

    first, second = read_configurations(path, LabelKeys())

    # ASE's constants are CODATA 2014, ours the exact ones of 2019.
    assert second.energy == pytest.approx(-20 * ase.units.kcal / ase.units.mol, rel=1e-7)
    np.testing.assert_allclose(first.forces, first.positions / 10 * ase.units.kcal / ase.units.mol, rtol=1e-7)
    assert first.atomic_numbers.tolist() == [8, 1, 1] and first.pbc == (False, False, False)


@pytest.mark.parametrize(
    "replaced, message",
    [
        ({"energies": None}, "lacks energies; it holds nuclear_charges, coords, forces"),
        ({"forces": np.zeros((2, 2, 3))}, r"forces has shape \[2, 2, 3\]; 2 energies of 3 atoms need \[2, 3, 3\]"),
        ({"energies": np.array([1.0, np.nan])}, "frame 1: energies holds nan"),
        ({"forces": np.full((2, 3, 3), np.inf)}, "frame 0, atom 0: forces holds inf"),
        ({"energies": np.array(["a", "b"])}, "not a readable npz archive; .*could not convert"),
    ],
)
def test_unusable_rmd17_archive_is_an_error(tmp_path, replaced, message):
    _write_rmd17(tmp_path / "a.npz", **replaced)
    with pytest.raises(InputError, match=message):
        read_configurations(tmp_path / "a.npz", LabelKeys())


def test_truncated_rmd17_archive_is_an_error(tmp_path):
    path = tmp_path / "a.npz"
    _write_rmd17(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="may be truncated"):
        read_configurations(path, LabelKeys())
