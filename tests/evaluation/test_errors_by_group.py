"""Errors in parts: those of a tiny example, computed by hand, and parts that make up the whole."""

import dataclasses

import ase
import numpy as np
import pytest

from mace_tp.data.configuration import Configuration, FileFrame
from mace_tp.data.graphs import build_graphs
from mace_tp.evaluation.batches import ConfigurationPrediction
from mace_tp.evaluation.errors_by_group import BadConfiguration, ConfigurationErrors, break_down, configuration_errors, formula

E0 = {1: -1.25, 8: -0.75}


def _case(symbols: str, index: int, config_type: str, energy_error: float | None, force_errors: np.ndarray | None):
    """A configuration and a prediction with these errors (eV, eV/Å); without a label where there is none."""
    atoms = ase.Atoms(symbols, [[1.1 * i, 0, 0] for i in range(len(ase.Atoms(symbols)))])
    labels = np.random.default_rng(index).normal(size=(len(atoms), 3))
    configuration = Configuration(
        atoms.numbers, atoms.positions, np.zeros((3, 3)), (False,) * 3, None if energy_error is None else -3.0,
        None if force_errors is None else labels, None, config_type, "", FileFrame("a.xyz", index, {}, {}, {}, ()),
    )  # fmt: skip
    interaction = -3.0 - sum(E0[number] for number in atoms.numbers)
    energy = 99.0 if energy_error is None else interaction + energy_error
    forces = np.full((len(atoms), 3), 99.0) if force_errors is None else labels + force_errors
    return configuration, ConfigurationPrediction(energy, forces, None)


@pytest.fixture(scope="module")
def breakdown():
    """HO 0.2 eV too high, H 0.6 eV too low and without forces, O2 without an energy; the last number of each is its frame."""
    cases = [
        _case("HO", 4, "a", 0.2, np.array([[0.1, -0.1, 0.1], [0.3, 0.0, 0.0]])),
        _case("H", 7, "", -0.6, None),
        _case("O2", 9, "a", None, np.array([[0.0, -0.4, 0.0], [0.0, 0.0, 0.0]])),
    ]
    configurations, predictions = zip(*cases, strict=True)
    graphs = build_graphs(configurations, tuple(E0), tuple(E0.values()), 3.0)
    return break_down(configuration_errors(configurations, graphs, predictions), 10)


def test_errors_by_element_are_those_computed_by_hand(breakdown):
    """Of forces: one hydrogen, for the other one has no label, and three oxygens."""
    assert list(breakdown.per_element) == ["H", "O"]
    hydrogen = {"num_atoms": 1, "force_mae": 100.0, "force_rmse": 100.0}
    oxygen = {"num_atoms": 3, "force_mae": 1000 * (0.3 + 0.4) / 9, "force_rmse": 1000 * np.sqrt((0.3**2 + 0.4**2) / 9)}
    assert breakdown.per_element["H"] == pytest.approx(hydrogen)
    assert breakdown.per_element["O"] == pytest.approx(oxygen)


def test_errors_by_type_are_those_computed_by_hand(breakdown):
    assert list(breakdown.per_config_type) == ["a", "none"]
    squares = 3 * 0.1**2 + 0.3**2 + 0.4**2
    assert breakdown.per_config_type["a"] == pytest.approx(
        {
            "num_configs": 2, "energy_mae": 100.0, "energy_rmse": 100.0, "energy_rmse_per_config": 200.0,
            "force_mae": 1000 * (3 * 0.1 + 0.3 + 0.4) / 12, "force_rmse": 1000 * np.sqrt(squares / 12),
        }
    )  # fmt: skip
    energies = {"energy_mae": 600.0, "energy_rmse": 600.0, "energy_rmse_per_config": 600.0}
    assert breakdown.per_config_type["none"] == pytest.approx({"num_configs": 1} | energies)


def test_worst_configurations_are_named_by_file_and_frame(breakdown):
    """O2 has the larger force RMSE, though fewer components err; an error of energy keeps its sign; what has no label is not listed."""
    hydroxyl = BadConfiguration("a.xyz", 4, "HO", "a", pytest.approx(1000 * np.sqrt((3 * 0.1**2 + 0.3**2) / 6)), pytest.approx(100.0))
    oxygen = BadConfiguration("a.xyz", 9, "O2", "a", pytest.approx(1000 * np.sqrt(0.4**2 / 6)), None)
    hydrogen = BadConfiguration("a.xyz", 7, "H", "none", None, pytest.approx(-600.0))

    assert breakdown.worst_forces == [oxygen, hydroxyl]
    assert breakdown.worst_energies == [hydrogen, hydroxyl]


def _random_errors(crystal: Configuration, count: int) -> list[ConfigurationErrors]:
    rng = np.random.default_rng(0)
    return [
        ConfigurationErrors(
            dataclasses.replace(crystal, config_type="ab"[i % 2]), rng.normal(), rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
        )
        for i in range(count)
    ]


def test_parts_make_up_the_whole(crystal):
    """Sums of squares over parts of unequal size, so that a mean of their means would be another number."""
    errors = _random_errors(crystal, 5)
    forces = 1000 * np.array([error.forces for error in errors])
    stresses = 1000 * np.array([error.stress for error in errors])

    breakdown = break_down(errors, 3)

    types, elements = breakdown.per_config_type.values(), breakdown.per_element.values()
    assert sum(9 * part["num_configs"] * part["force_rmse"] ** 2 for part in types) == pytest.approx(np.sum(forces**2))
    assert sum(9 * part["num_configs"] * part["stress_rmse"] ** 2 for part in types) == pytest.approx(np.sum(stresses**2))
    assert sum(3 * part["num_atoms"] * part["force_rmse"] ** 2 for part in elements) == pytest.approx(np.sum(forces**2))
    assert len(breakdown.worst_forces) == len(breakdown.worst_energies) == 3


def test_what_is_not_a_number_is_worst(crystal):
    errors = _random_errors(crystal, 4)
    errors[2] = dataclasses.replace(errors[2], energy=np.nan, forces=np.full((3, 3), np.nan))

    breakdown = break_down(errors, 2)

    assert np.isnan(breakdown.worst_forces[0].force_rmse) and np.isnan(breakdown.worst_energies[0].energy_error)


def test_nothing_labelled_gives_nothing(crystal):
    breakdown = break_down([ConfigurationErrors(crystal, None, None, None)], 10)

    assert (breakdown.per_element, breakdown.per_config_type) == ({}, {"none": {"num_configs": 1}})
    assert breakdown.worst_forces == breakdown.worst_energies == []


@pytest.mark.parametrize("symbols", ["CH3CH2OH", "OH", "NaCl", "C", "BrC2H5", "H2", "UO2"])
def test_formula_is_that_of_ase(symbols):
    atoms = ase.Atoms(symbols)

    assert formula(atoms.numbers) == atoms.get_chemical_formula(mode="hill")
