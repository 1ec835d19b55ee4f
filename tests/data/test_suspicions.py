"""Warnings of what is likely a mistake: each is given where it should, and none where nothing is wrong."""

import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mace_tp.data.graphs import Graph, build_graphs
from mace_tp.data.suspicions import suspicions

E0 = {1: -13.6, 8: -2041.0, 29: 0.0}


def _graphs(configurations) -> list[Graph]:
    return build_graphs(configurations, tuple(E0), tuple(E0.values()), 5.0)


def _warned(parts, energies=None, fitted: bool = False) -> str:
    energies = energies or tuple(E0.values())
    return "\n".join(suspicions({name: _graphs(part) for name, part in parts.items()}, tuple(E0), energies, energies_are_fitted=fitted))


@pytest.fixture
def water(make_configuration):
    return make_configuration(energy=E0[8] + 2 * E0[1] - 9.0, forces=np.full((3, 3), -0.5), source="a.xyz frame 0")


@pytest.fixture
def copper(make_configuration):
    """Crystals of several volumes, rattled, with the stress of EMT times a factor."""

    def make(factor: float) -> list:
        made = []
        for index, strain in enumerate(np.linspace(-0.05, 0.05, 10)):
            atoms = bulk("Cu", a=3.6 * (1 + strain), cubic=True)
            atoms.rattle(0.05, seed=index)
            atoms.calc = EMT()
            energy, stress = atoms.get_potential_energy(), factor * atoms.get_stress(voigt=False)
            made.append(make_configuration(atoms.numbers, atoms.positions, atoms.cell[:], (True,) * 3, energy, atoms.get_forces(), stress))
        return made

    return make


def test_nothing_is_said_of_good_data(water, make_configuration, copper):
    hydrogen = make_configuration([1, 1], [[0, 0, 0], [0, 0, 0.74]], energy=2 * E0[1] - 4.5)
    assert _warned({"train": [water, *copper(1.0)], "valid": [hydrogen]}) == ""


def test_energies_of_another_method(water, make_configuration):
    far = make_configuration(positions=water.positions[::-1], energy=-14.0, source="b.xyz frame 7")
    warning = _warned({"train": [water], "valid": [water, far]}).splitlines()[0]
    assert warning.startswith("valid: E - ΣE0 beyond 50 eV/atom in 1 configurations, first b.xyz frame 7 (684.7 eV/atom)")


@pytest.mark.parametrize(
    ("unit", "name"),
    [(1 / ase.units.Hartree, "Hartree"), (ase.units.mol / ase.units.kcal, "kcal/mol"), (ase.units.mol / ase.units.kJ, "kJ/mol")],
)
def test_units_of_atomic_energies(unit, name, water):
    energies = (-13.6 * unit, -2041.0 * unit, 0.0)
    # Copper is beyond the table.
    assert f"the E0s of H O are those of all electrons in {name}" in _warned({"train": [water]}, energies)
    assert "the E0s" not in _warned({"train": [water]}, energies, fitted=True)


def test_forces_in_kcal_per_mol(water, make_configuration):
    large = make_configuration(forces=np.full((3, 3), 40.0), energy=None)
    assert "train: forces of 40.0 eV/Å (root mean square) are very large" in _warned({"train": [large]})


def test_stress_of_the_other_sign(copper):
    assert "train: the stress falls as the cell grows, in 10 configurations" in _warned({"train": copper(-1.0)})


def test_stress_in_gigapascal(copper):
    assert "train: stress of" in (said := _warned({"train": copper(1 / ase.units.GPa)})) and "is likely in GPa" in said


def test_total_energies_in_hartree_with_fitted_atomic_energies(make_configuration):
    """Water; the E0s that are fitted to it are no atom's, and the energies of the bonds are small."""
    fitted = (-25.4, -50.9, 0.0)
    frames = build_graphs([make_configuration(energy=-101.7 + 25.3)], tuple(E0), fitted, 5.0)
    (said,) = suspicions({"train": frames}, tuple(E0), fitted, energies_are_fitted=True)
    assert said.startswith("train: the total energies are those of all electrons in Hartree")


def test_a_frame_with_forces_far_outside_the_rest(make_gas):
    frames = [make_gas(4, seed=seed, energy=None, source=f"a.xyz frame {seed}") for seed in range(12)]
    frames[7].forces[0, 0] = 500.0
    assert "train: forces far larger than in other frames: a.xyz frame 7 (500 eV/Å)" in _warned({"train": frames})


def test_atoms_too_close(water, make_configuration):
    near = make_configuration([1, 1], [[0, 0, 0], [0, 0, 0.2]], energy=None, source="b.xyz frame 7")
    assert _warned({"train": [water, near]}) == "train: atoms closer than 0.3 Å in 1 configurations, first b.xyz frame 7 (0.200 Å)"


def test_isolated_atoms_among_the_training_frames(water, make_configuration):
    lone = make_configuration([1], [[0, 0, 0]], energy=E0[1], source="b.xyz frame 7")
    assert "train: single atoms in 1 configurations, first b.xyz frame 7" in _warned({"train": [water, lone]})


@pytest.mark.parametrize(("field", "energy"), [("energy", "+0.5000"), ("forces", "+0.0000")])
def test_one_structure_with_two_sets_of_labels(field, energy, water, make_configuration):
    other = {"energy": water.energy, "forces": water.forces, "source": "b.xyz frame 7"}
    other[field] = other[field] + 1.5
    frames = [water, make_configuration(**other)]

    expected = f"with other labels, which no model can fit: b.xyz frame 7 (is a.xyz frame 0, energy {energy} eV/atom)"
    assert _warned({"train": frames}) == f"train: 1 structure occurs more than once {expected}"
    assert _warned({"train": frames[:1], "valid": frames[1:]}) == f"valid: 1 structure occurs also in train {expected}"


def test_structures_that_are_there_twice(water, make_configuration):
    moved = make_configuration(
        positions=water.positions + [1.0, 2.0, 3.0], energy=water.energy, forces=water.forces, source="b.xyz frame 7"
    )
    turned = make_configuration(positions=water.positions[:, [1, 2, 0]], energy=water.energy, source="c.xyz frame 1")

    assert _warned({"train": [water], "valid": [turned]}) == ""
    said = _warned({"train": [water, turned, turned], "valid": [turned, moved]})

    assert "other labels" not in said
    assert "train: 1 of 3 structures occurs more than once, the first: c.xyz frame 1 equals c.xyz frame 1" in said
    assert "valid: 2 of 2 structures occur also in train, the first: c.xyz frame 1 equals c.xyz frame 1" in said
