"""Labels in other units than eV and Å are recognized, and labels in eV and Å are not."""

import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_tp.data.graphs import build_graphs
from mace_tp.data.units import units_of_stress, units_of_total_energies

# Total energies by density functional theory (wB97M-V), Hartree: literature values, to three digits.
WATER, METHANE, HYDROGEN = -76.44, -40.51, -1.17
MOLAR = ase.units.kJ / ase.units.mol
GPA, KBAR = ase.units.GPa, 0.1 * ase.units.GPa


def _total(frames, elements=(1, 6, 8), atomic_energies=None) -> list[str]:
    energies = (0.0,) * len(elements) if atomic_energies is None else atomic_energies
    return units_of_total_energies(build_graphs(frames, elements, energies, 3.0), elements, energies)


@pytest.fixture
def organic(make_configuration):
    """Water and methane with total energies in Hartree times a factor."""
    places = 1.1 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])

    def make(factor: float) -> list:
        methane = make_configuration([6, 1, 1, 1, 1], places, energy=METHANE * factor)
        return 5 * [make_configuration(energy=WATER * factor), methane]

    return make


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(1.0, "Hartree"), (ase.units.Hartree / (ase.units.kcal / ase.units.mol), "kcal/mol"), (ase.units.Hartree / MOLAR, "kJ/mol")],
)
@pytest.mark.parametrize("atomic_energies", [(0.0, 0.0, 0.0), (-0.6, -37.0, -75.0), (-13.6, -1030.0, -2041.0)])
def test_total_energies_of_all_electrons(factor, unit, atomic_energies, organic):
    """Whatever the E0s are."""
    (said,) = _total(organic(factor), atomic_energies=atomic_energies)
    assert said.startswith(f"the total energies are those of all electrons in {unit}, 1.0") and "must be in eV" in said


def test_total_energies_in_electronvolts_are_right(organic, make_configuration):
    assert _total(organic(ase.units.Hartree)) == []
    # With pseudopotentials, and relative to atoms: the plane-wave energies of water and of hydrogen.
    assert _total(5 * [make_configuration(energy=-14.2)]) == []
    assert _total(5 * [make_configuration([1, 1], [[0, 0, 0], [0, 0, 0.74]], energy=HYDROGEN * ase.units.Hartree)]) == []
    assert _total([make_configuration(energy=None)]) == []


def test_a_single_element_needs_the_energy_to_one_percent(make_configuration):
    def warned(number, energy):
        return _total([make_configuration([number] * 3, energy=3 * energy)], (14, 29, 79), (0.0,) * 3)

    assert "Hartree" in warned(14, -289.3)[0] and "Hartree" in warned(29, -1640.0)[0]
    # Copper with an ultrasoft pseudopotential, eV; gold is beyond the table.
    assert warned(29, -1678.0) == [] == warned(79, -17865.0)


def _copper(size: int, strain: float, displacement: float) -> list:
    """Crystals of several volumes and shears, rattled, with EMT's forces and stress."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(12):
        atoms = bulk("Cu", cubic=True) * (size, size, size)
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + rng.normal(scale=strain, size=(3, 3))), scale_atoms=True)
        atoms.rattle(displacement, rng=rng)
        atoms.calc = EMT()
        made.append((atoms, atoms.get_forces(), atoms.get_stress(voigt=False)))
    return made


@pytest.fixture(scope="module")
def copper():
    return _copper(1, 0.02, 0.1)


def _stress(copper, make_configuration, factor, with_forces=True) -> list[str]:
    frames = [
        make_configuration(atoms.numbers, atoms.positions, atoms.cell[:], (True,) * 3, 0.0, with_forces * forces, factor * stress)
        for atoms, forces, stress in copper
    ]
    return units_of_stress(build_graphs(frames, (29,), (0.0,), 3.0))


@pytest.mark.parametrize("with_forces", [True, False])
def test_stress_in_electronvolts_is_right(copper, make_configuration, with_forces):
    assert _stress(copper, make_configuration, 1.0, with_forces) == []


def test_stress_of_strained_cells_whose_atoms_have_hardly_moved_is_right(make_configuration):
    assert _stress(_copper(4, 0.08, 0.02), make_configuration, 1.0) == []


def test_stress_under_pressure_is_right(copper, make_configuration):
    under_pressure = [(atoms, forces, stress - 0.6 * np.eye(3)) for atoms, forces, stress in copper]
    assert _stress(under_pressure, make_configuration, 1.0) == []


@pytest.mark.parametrize(("unit", "size"), [("GPa", GPA), ("kbar", KBAR)])
@pytest.mark.parametrize("sign", [1, -1])
def test_stress_in_another_unit(unit, size, sign, copper, make_configuration):
    (said,) = _stress(copper, make_configuration, sign / size)
    assert f"it is likely in {unit}, if not in " in said and f"1 {unit} = {size:.6g} eV/Å³" in said


@pytest.mark.parametrize("size", [GPA, KBAR])
def test_large_stress_without_forces(size, copper, make_configuration):
    (said,) = _stress(copper, make_configuration, 1 / size, with_forces=False)
    assert "is it in GPa or kbar" in said
