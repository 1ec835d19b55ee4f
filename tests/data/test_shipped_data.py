"""The data that ships: what the files hold, and that their labels are those of the methods that data/README.md names."""

import io
import lzma
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

DATA = Path(__file__).parents[2] / "data"
MOLECULES = {"ethanol/train_300K.xyz.xz": 1000, "ethanol/test_300K.xyz.xz": 500, "ethanol/test_600K.xyz.xz": 500}
CRYSTALS = {"cu_au/train.xyz.xz": 240, "cu_au/test.xyz.xz": 60}
ISOLATED = {"ethanol/isolated_atoms.xyz.xz": ["H", "C", "O"], "cu_au/isolated_atoms.xyz.xz": ["Cu", "Au"]}
# Half a unit of the last decimal that is kept is rounding; the other half is for the last bits of another machine.
ENERGY_ROUNDING, FORCE_ROUNDING, STRESS_ROUNDING = 1e-8, 1e-6, 1e-8
# The differences below err by about as much as the rounding; these are five times what was measured.
FORCE_DIFFERENCE, STRESS_DIFFERENCE = 5e-6, 1e-7


def read(name: str, index: str = ":") -> list[Atoms]:
    # Decompressed first: ASE seeks, and a seek backwards decompresses the file from its start (80 times slower).
    text = lzma.decompress((DATA / name).read_bytes()).decode()
    return ase.io.read(io.StringIO(text), index, format="extxyz")


def gfn2(multiplicity: int = 1) -> Calculator:
    tblite = pytest.importorskip("tblite.ase", reason="tblite, which labels ethanol, is not installed")
    return tblite.TBLite(method="GFN2-xTB", accuracy=1e-4, multiplicity=multiplicity, verbosity=0)


def central_difference(energies: list[float], step: float) -> float:
    """Derivative from the values at -2, -1, 1 and 2 steps; exact to the fourth order of the step."""
    return (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)


def forces_by_difference(atoms: Atoms, step: float) -> np.ndarray:
    """Minus the derivative of the energy by every coordinate [atoms, 3], eV/Å, with the calculator of the atoms."""
    start, forces = atoms.positions.copy(), np.zeros((len(atoms), 3))
    for index in np.ndindex(*forces.shape):
        energies = []
        for multiple in (-2, -1, 1, 2):
            atoms.positions = start
            atoms.positions[index] += multiple * step
            energies.append(atoms.get_potential_energy())
        forces[index] = -central_difference(energies, step)
    atoms.positions = start
    return forces


def stress_by_difference(atoms: Atoms, step: float) -> np.ndarray:
    """Derivative of the energy by a symmetric strain, over the volume [3, 3], eV/Å³, with the calculator of the atoms."""
    cell, stress = atoms.cell.array.copy(), np.zeros((3, 3))
    for row, column in np.ndindex(3, 3):
        energies = []
        for multiple in (-2, -1, 1, 2):
            strain = np.zeros((3, 3))
            strain[row, column] += multiple * step / 2
            strain[column, row] += multiple * step / 2
            atoms.set_cell(cell @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(atoms.get_potential_energy())
            atoms.set_cell(cell, scale_atoms=True)
        stress[row, column] = central_difference(energies, step) / atoms.get_volume()
    return stress


@pytest.mark.parametrize(("name", "num_configs"), [*MOLECULES.items(), *CRYSTALS.items()])
def test_file_holds_the_announced_configurations_with_finite_labels(name: str, num_configs: int):
    frames = read(name)

    assert len(frames) == num_configs
    for frame in frames:
        assert np.isfinite(frame.get_potential_energy())
        assert np.isfinite(frame.positions).all() and np.isfinite(frame.get_forces()).all()
        assert frame.get_forces().any(), "a moved atom feels a force"


@pytest.mark.parametrize("name", MOLECULES)
def test_molecules_are_ethanol_without_a_cell(name: str):
    for frame in read(name):
        assert frame.symbols.get_chemical_formula() == "C2H6O"
        assert not frame.pbc.any() and frame.cell.rank == 0


@pytest.mark.parametrize("name", CRYSTALS)
def test_crystals_are_periodic_alloys_with_stress(name: str):
    frames = read(name)

    assert {symbol for frame in frames for symbol in frame.symbols} == {"Cu", "Au"}
    assert min(map(len, frames)) == 4 and max(map(len, frames)) == 32
    for frame in frames:
        assert frame.pbc.all()
        assert np.isfinite(frame.cell.array).all() and np.isfinite(frame.get_stress()).all()


@pytest.mark.parametrize(("name", "symbols"), ISOLATED.items())
def test_isolated_atoms_cover_the_elements_and_are_tagged(name: str, symbols: list[str]):
    frames = read(name)

    assert [str(frame.symbols) for frame in frames] == symbols
    for frame in frames:
        assert frame.info["config_type"] == "IsolatedAtom"
        assert np.isfinite(frame.get_potential_energy()) and not frame.get_forces().any() and not frame.pbc.any()


def test_no_configuration_occurs_twice():
    frames = [frame for name in (*MOLECULES, *CRYSTALS) for frame in read(name)]

    assert len({frame.positions.tobytes() for frame in frames}) == len(frames)


def test_all_data_stay_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 2_000_000


def test_mean_energies_rise_with_temperature_as_equipartition_says():
    cold, hot = (np.mean([frame.get_potential_energy() for frame in read(f"ethanol/test_{kelvin}K.xyz.xz")]) for kelvin in (300, 600))

    # Half k_B T for each of the 21 vibrations; 15 %: anharmonicity, and the standard error of 500 correlated samples (about 0.01 eV).
    assert hot - cold == pytest.approx(21 / 2 * units.kB * 300, rel=0.15)


@pytest.mark.parametrize("name", MOLECULES)
def test_ethanol_labels_are_gfn2_energies_and_their_derivatives(name: str):
    for frame in read(name, "::200"):
        atoms = frame.copy()
        atoms.calc = gfn2()

        assert frame.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=ENERGY_ROUNDING, rel=0)
        np.testing.assert_allclose(frame.get_forces(), atoms.get_forces(), atol=FORCE_ROUNDING, rtol=0)
        np.testing.assert_allclose(frame.get_forces(), forces_by_difference(atoms, 4e-3), atol=FORCE_DIFFERENCE, rtol=0)


def test_isolated_atoms_are_gfn2_ground_states():
    for frame, multiplicity in zip(read("ethanol/isolated_atoms.xyz.xz"), (2, 3, 3), strict=True):
        atoms = frame.copy()
        atoms.calc = gfn2(multiplicity)

        assert frame.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=ENERGY_ROUNDING, rel=0)


@pytest.mark.parametrize("name", CRYSTALS)
def test_alloy_labels_are_emt_energies_and_their_derivatives(name: str):
    small = [frame for frame in read(name) if len(frame) <= 8]
    for frame in small[:3]:
        atoms = frame.copy()
        atoms.calc = EMT()

        assert frame.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=ENERGY_ROUNDING, rel=0)
        np.testing.assert_allclose(frame.get_forces(), atoms.get_forces(), atol=FORCE_ROUNDING, rtol=0)
        np.testing.assert_allclose(frame.get_stress(), atoms.get_stress(), atol=STRESS_ROUNDING, rtol=0)
        np.testing.assert_allclose(frame.get_forces(), forces_by_difference(atoms, 1e-3), atol=FORCE_DIFFERENCE, rtol=0)
        np.testing.assert_allclose(frame.get_stress(voigt=False), stress_by_difference(atoms, 1e-3), atol=STRESS_DIFFERENCE, rtol=0)


def test_isolated_metals_have_the_energy_of_emt_far_from_every_neighbor():
    for frame in read("cu_au/isolated_atoms.xyz.xz"):
        pair = frame + Atoms(frame.symbols, [[0, 0, 20.0]])
        pair.calc = EMT()

        assert pair.get_potential_energy() == pytest.approx(2 * frame.get_potential_energy(), abs=ENERGY_ROUNDING)
