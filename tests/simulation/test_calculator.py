"""The calculator of ASE: derivatives, runs without new programs, committees, and what it says to wrong input."""

import copy
import dataclasses
import pickle

import ase
import ase.db
import ase.io
import jax
import numpy as np
import pytest
from ase import units
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

import mace_tp.data.verlet
from mace_tp import Calculator
from mace_tp.errors import InputError
from mace_tp.evaluation.evaluate import Evaluator
from mace_tp.model.potential import Potential
from mace_tp.model.saved_model import create_model, save_model
from mace_tp.tensor_products.registry import TensorProductConfig

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def models(architecture, statistics) -> list[Potential]:
    shape = dataclasses.replace(architecture, l_max=1, correlation=2, radial_mlp=[8])
    return [create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def calculator(models) -> Calculator:
    return Calculator(models[0])


def _atoms(configuration) -> ase.Atoms:
    return ase.Atoms(configuration.atomic_numbers, configuration.positions, cell=configuration.cell, pbc=configuration.pbc)


@pytest.fixture
def atoms(molecule, calculator) -> ase.Atoms:
    atoms = _atoms(molecule)
    atoms.calc = calculator
    return atoms


def test_energy_and_forces_are_those_of_an_evaluation(atoms, molecule, models):
    evaluation = Evaluator(models[0], 1).evaluate([molecule])
    [energy], [prediction] = evaluation.total_energies(models[0]), evaluation.predictions
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), prediction.forces, atol=1e-12)
    with pytest.raises(NotImplementedError):
        atoms.get_stress()


def test_forces_are_differences_of_energies(atoms):
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)


def test_stress_is_the_difference_of_energies_of_strained_cells(crystal, calculator):
    atoms = _atoms(crystal)
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_a_thousand_steps_of_dynamics_compile_nothing_and_keep_the_energy(name, request, models):
    atoms = _atoms(request.getfixturevalue(name))
    atoms.calc = Calculator(models[0])
    atoms.get_forces()
    compiled = atoms.calc.num_compilations
    atoms.set_velocities(np.random.default_rng(0).normal(scale=0.05, size=(len(atoms), 3)))
    start, places = atoms.get_total_energy(), atoms.positions.copy()

    VelocityVerlet(atoms, timestep=0.2 * units.fs).run(1000)

    assert atoms.calc.num_compilations == compiled
    assert np.abs(atoms.positions - places).max() > 0.5, "neighbors were looked for again"
    assert atoms.get_total_energy() == pytest.approx(start, abs=2e-3)


def test_a_relaxation_lowers_the_energy(atoms):
    """A few steps: random weights do not repel, so that atoms later fall into each other, and rounding decides where to."""
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=4)
    assert atoms.get_potential_energy() < before - 0.1


def test_a_committee_gives_the_mean_and_its_spread(molecule, models, tmp_path):
    paths = [tmp_path / str(seed) for seed in SEEDS]
    for path, model in zip(paths, models):
        save_model(path / "model", model, {})
    single = [Calculator(path, dtype="float64") for path in paths]
    atoms = _atoms(molecule)
    energies, forces = zip(*((calc.get_potential_energy(atoms), calc.get_forces(atoms)) for calc in single))

    atoms.calc = Calculator(paths, dtype="float64")

    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies), rel=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), np.mean(forces, axis=0), atol=1e-12)
    results = atoms.calc.results
    assert results["energy_std"] == pytest.approx(np.std(energies, ddof=1), rel=1e-9) and results["energy_std"] > 1e-3
    np.testing.assert_allclose(results["forces_std"], np.std(forces, axis=0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(results["energy_committee"], energies, rtol=1e-12)
    assert atoms.calc.num_compilations == 1, "models that differ in their parameters only share a program"


def test_models_of_a_committee_look_for_neighbors_once(molecule, models, monkeypatch):
    searches, search = [], mace_tp.data.verlet.neighbor_images
    monkeypatch.setattr(mace_tp.data.verlet, "neighbor_images", lambda *arguments: searches.append(1) or search(*arguments))
    Calculator(models).get_potential_energy(_atoms(molecule))
    assert len(searches) == 1


def test_a_model_that_is_given_takes_the_dtype_that_is_asked_for(molecule, models, calculator):
    atoms = _atoms(molecule)
    single = Calculator(models[0], dtype="float32")
    assert single.dtype == "float32" and calculator.dtype == "float64" and Calculator(models[0].astype(np.float32)).dtype == "float32"
    difference = abs(single.get_potential_energy(atoms) - calculator.get_potential_energy(atoms))
    assert 0 < difference < 1e-5
    assert models[0].dtype == np.float64, "the model itself stays"


def test_a_committee_may_have_models_of_both_dtypes(molecule, models):
    both = Calculator([models[0].astype(np.float32), models[0]])
    both.get_potential_energy(_atoms(molecule))
    assert 0 < both.results["energy_std"] < 1e-5


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
def test_a_copy_of_a_calculator_gives_the_same(copied, atoms):
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()

    other = copied(atoms)

    assert other.calc is not atoms.calc and other.calc.results["energy"] == energy and other.calc.num_compilations == 0
    other.positions[0, 0] += 0.1
    assert other.get_potential_energy() != energy
    other.positions[:] = atoms.positions
    assert other.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(other.get_forces(), forces, atol=1e-12)


def test_databases_and_trajectories_keep_name_and_parameters(molecule, models, tmp_path):
    save_model(tmp_path / "model", models[0], {})
    atoms = _atoms(molecule)
    atoms.calc = Calculator([tmp_path, models[1]], dtype="float64")
    atoms.get_potential_energy()

    ase.db.connect(tmp_path / "a.db").write(atoms)
    ase.io.write(tmp_path / "a.traj", atoms)

    row = ase.db.connect(tmp_path / "a.db").get(calculator="mace_tp")
    again = Calculator([models[0], models[1]])
    weights = again.parameters["weights"]
    assert row.calculator_parameters == {"models": [str(tmp_path), None], "weights": weights, "dtype": "float64"}
    assert len(set(weights)) == 2 and Calculator(models[0], dtype="float32").parameters["weights"] == weights[:1]
    assert ase.io.read(tmp_path / "a.traj").calc.name == "mace_tp"
    for copied in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        assert copied.parameters == atoms.calc.parameters


def test_parameters_that_would_only_be_written_down_are_refused(calculator):
    with pytest.raises(InputError, match=r"^dtype: cannot be changed; make another Calculator"):
        calculator.set(dtype="float32")


def test_a_pickle_keeps_float64_where_it_is_not_switched_on(calculator):
    pickled = pickle.dumps(calculator)
    jax.config.update("jax_enable_x64", False)
    try:
        assert pickle.loads(pickled).dtype == "float64"
    finally:
        jax.config.update("jax_enable_x64", True)


def test_float32_is_close_to_float64(molecule, models, calculator, tmp_path):
    save_model(tmp_path, models[0], {})
    atoms = _atoms(molecule)
    single = Calculator(tmp_path, dtype="float32")
    assert single.get_potential_energy(atoms) == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-5)
    assert single.get_forces(atoms).dtype == np.float64


@pytest.mark.parametrize(
    "atoms, message",
    [
        (ase.Atoms(), "atoms: has no atoms"),
        (ase.Atoms("CSi", [[0, 0, 0], [1, 1, 1]]), "atoms CSi, atom 1: element Si is not one of the model's .H C O."),
        (ase.Atoms("CO", [[0, 0, 0], [1, np.nan, 1]]), "atoms CO, atom 1: positions holds nan"),
        (ase.Atoms("CO", [[0, 0, 0], [0, 0, 0]]), "atoms CO: atoms 0 .C. and 1 .O. are at the same place"),
        (ase.Atoms("CO", [[0, 0, 0], [1, 1, 1]], pbc=True), "atoms CO: periodic along a but the lattice vector a is zero"),
    ],
    ids=["empty", "element", "nan", "coincident", "no cell"],
)
def test_what_cannot_be_computed_is_one_clear_line(atoms, message, calculator):
    atoms.calc = calculator
    with pytest.raises(InputError, match=message) as error:
        atoms.get_potential_energy()
    assert "\n" not in str(error.value)


def test_models_that_do_not_belong_together_are_refused(models, statistics, tmp_path):
    other = create_model(
        models[0].architecture,
        TensorProductConfig(),
        dataclasses.replace(statistics, atomic_numbers=(1, 6), atomic_energies=(0.0, 0.0)),
        np.dtype(np.float64),
        seed=0,
    )
    with pytest.raises(InputError, match="one has the elements H C, another H C O"):
        Calculator([models[0], other])
    with pytest.raises(InputError, match="no model here"):
        Calculator(tmp_path)
    with pytest.raises(InputError, match="dtype=half"):
        Calculator(models[0], dtype="half")
    with pytest.raises(InputError, match="is empty"):
        Calculator([])
    for given in (None, 3, [models[0], 3]):
        with pytest.raises(InputError, match="models: (None|3) is neither the path"):
            Calculator(given)


def test_a_calculator_without_atoms_says_so(models):
    with pytest.raises(InputError, match="atoms: none are given"):
        Calculator(models[0]).get_potential_energy()
