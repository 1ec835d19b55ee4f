"""A potential that is called: on atoms, on batches, on structures that move; and its Hessian."""

import copy
import dataclasses
import pickle

import ase
import jax
import numpy as np
import pytest

import mace_tp.data.verlet
from mace_tp.data.atoms import atoms_of, configuration_of
from mace_tp.data.graphs import build_graphs
from mace_tp.data.verlet import VerletList
from mace_tp.errors import InputError
from mace_tp.evaluation.evaluate import Evaluator
from mace_tp.graph import displaced
from mace_tp.model.potential import Potential, StructureEvaluator
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import create_model
from mace_tp.tensor_products.registry import TensorProductConfig


@pytest.fixture(scope="module")
def model(architecture, statistics) -> Potential:
    shape = dataclasses.replace(architecture, l_max=1, correlation=2, radial_mlp=[8])
    return create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)


@pytest.fixture
def atoms(request, molecule, crystal) -> ase.Atoms:
    return atoms_of({"molecule": molecule, "crystal": crystal}[request.param])


BOTH = pytest.mark.parametrize("atoms", ["molecule", "crystal"], indirect=True)


@BOTH
def test_atoms_and_a_padded_batch_give_the_same(atoms, model, make_batch):
    configuration = configuration_of(atoms)
    batch = make_batch(configuration)

    found, expected = model(atoms), model.predict(batch)

    zero = dict(zip(model.elements, model.statistics.atomic_energies))
    assert found.energy == pytest.approx(float(expected.energy[0]) + sum(zero[z] for z in atoms.numbers), rel=1e-12)
    assert found.energies.sum() == pytest.approx(found.energy, rel=1e-12) and found.forces.dtype == np.float64
    np.testing.assert_allclose(found.forces, expected.forces[: len(atoms)], atol=1e-12)
    assert (found.stress is not None) == atoms.pbc.all()
    if atoms.pbc.all():
        np.testing.assert_allclose(found.stress, expected.stress[0], atol=1e-12)


def test_a_potential_knows_what_it_is(model, architecture, statistics):
    assert model.elements == statistics.atomic_numbers and model.cutoff == architecture.cutoff
    assert model.dtype == np.float64 and model.tensor_product == TensorProductConfig()
    assert model.num_parameters == sum(leaf.size for leaf in jax.tree.leaves(model.params))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
def test_a_copy_of_a_potential_that_was_called_gives_the_same(copied, model, molecule):
    expected = model.evaluate(molecule)

    found = copied(model).evaluate(molecule)

    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-12)


def test_other_parameters_are_another_potential(model, molecule):
    """Programs and parameters on the device that a potential keeps are not those of the one made from it."""
    before = model.evaluate(molecule).energy
    doubled = dataclasses.replace(model, params=jax.tree.map(lambda leaf: 2 * leaf, model.params))
    single = model.astype(np.float32)

    assert abs(doubled.evaluate(molecule).energy - before) > 1e-3
    assert 0 < abs(single.evaluate(molecule).energy - before) < 1e-5
    assert model.evaluate(molecule).energy == before


def test_what_cannot_be_computed_is_said_in_one_line(model):
    with pytest.raises(InputError, match="^atoms CSi, atom 1: element Si is not one of the model's .H C O.$"):
        model(ase.Atoms("CSi", [[0, 0, 0], [1, 1, 1]]))


@BOTH
def test_the_hessian_is_the_difference_of_forces(atoms, model):
    size, step = 3 * len(atoms), 1e-4
    differences = np.empty((size, size))
    for i in range(size):
        ahead, behind = atoms.copy(), atoms.copy()
        ahead.positions.flat[i] += step
        behind.positions.flat[i] -= step
        differences[i] = (model(behind).forces - model(ahead).forces).ravel() / (2 * step)

    hessian = model.hessian(atoms)

    assert np.abs(hessian).max() > 0.1
    np.testing.assert_allclose(hessian, differences, atol=1e-6 * np.abs(hessian).max())
    np.testing.assert_allclose(hessian.reshape(size, -1, 3).sum(axis=1), 0, atol=1e-10)  # translations


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_the_hessian_with_direct_forces_is_that_of_the_energy(atoms, model, statistics):
    shape = dataclasses.replace(model.architecture, forces="direct")
    direct = create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)

    np.testing.assert_allclose(direct.hessian(atoms), model.hessian(atoms), atol=1e-10)


@pytest.mark.parametrize("name", ["cg", "spherical_grid", "matrix"])
@pytest.mark.parametrize("kernel", ["auto", "xla"])
def test_forward_mode_is_refused(name, kernel, architecture, statistics, make_batch, molecule):
    shape = dataclasses.replace(architecture, l_max=1, correlation=2, radial_mlp=[4], num_channels=2)
    model = create_model(shape, TensorProductConfig(name, name), statistics, np.dtype(np.float64), seed=0, kernel=kernel)
    batch, predict = jax.tree.map(jax.numpy.asarray, make_batch(molecule)), make_predict(model.graphdef)

    def energy(displacements):
        return predict(model.params, displaced(batch, displacements)).energy

    with pytest.raises(TypeError, match="^can't apply forward-mode .* to a custom_vjp function"):
        jax.jit(lambda step: jax.jvp(energy, (step,), (step,))).lower(np.zeros((batch.num_nodes, 3)))


def _path(configuration, sizes=((1, 0.0), (1, 0.05), (1, 0.05), (1, 0.4), (3, 0.0), (1, 0.0))):
    """The structure stretched and shaken, now within the skin, now far beyond."""
    rng = np.random.default_rng(0)
    for stretch, size in sizes:
        shaken = stretch * configuration.positions + rng.normal(scale=size, size=configuration.positions.shape)
        yield dataclasses.replace(configuration, positions=shaken)


@pytest.mark.parametrize("name", ["molecule", "crystal", "lone_atom"])
def test_the_graph_of_a_moved_structure_is_that_of_a_new_one(name, request, statistics):
    configuration = request.getfixturevalue(name)
    verlet = VerletList(statistics.atomic_numbers, 4.0, 1.0)
    for moved in _path(configuration):
        _assert_same_graph(verlet.graph(moved), moved, statistics)


def _strained(configuration, strain):
    deformation = np.eye(3) + strain
    return dataclasses.replace(configuration, cell=configuration.cell @ deformation, positions=configuration.positions @ deformation)


@pytest.fixture
def searches(monkeypatch) -> list[float]:
    """Radii of the searches for neighbors so far."""
    radii: list[float] = []
    search = mace_tp.data.verlet.neighbor_images

    def counted(positions, cell, pbc, cutoff):
        radii.append(cutoff)
        return search(positions, cell, pbc, cutoff)

    monkeypatch.setattr(mace_tp.data.verlet, "neighbor_images", counted)
    return radii


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, True, False)], ids=["crystal", "slab", "wire"])
def test_the_graph_of_a_strained_cell_is_that_of_a_new_one_without_another_search(pbc, crystal, statistics, searches):
    verlet, rng = VerletList(statistics.atomic_numbers, 4.0, 1.0), np.random.default_rng(0)
    start = dataclasses.replace(crystal, pbc=pbc)
    verlet.graph(start)
    for size in (0.01, 0.02, 0.03):
        strained = _strained(start, rng.uniform(-size, size, (3, 3)))
        shaken = dataclasses.replace(strained, positions=strained.positions + rng.normal(scale=0.02, size=(3, 3)) + 7.0)
        _assert_same_graph(verlet.graph(shaken), shaken, statistics)
    assert searches == [5.0]


@pytest.mark.parametrize("size", [0.1, 0.3, -0.2, -0.5])
def test_the_graph_of_a_cell_that_is_strained_beyond_the_skin_is_that_of_a_new_one(size, crystal, statistics):
    verlet, shear = VerletList(statistics.atomic_numbers, 4.0, 1.0), np.zeros((3, 3))
    shear[0, 1] = size
    for strain in (size * np.eye(3), shear):
        verlet.graph(crystal)
        _assert_same_graph(verlet.graph(_strained(crystal, strain)), _strained(crystal, strain), statistics)
        unscaled = dataclasses.replace(crystal, cell=crystal.cell @ (np.eye(3) + strain))
        _assert_same_graph(verlet.graph(unscaled), unscaled, statistics)


def _assert_same_graph(graph, configuration, statistics) -> None:
    """As of a search for this place; and every edge is the opposite of its reverse to the last bit."""
    [expected] = build_graphs([configuration], statistics.atomic_numbers, statistics.atomic_energies, 4.0)
    assert _edges(graph) == _edges(expected)
    first, second = (graph.pairs[:, i] for i in range(2))
    assert len(graph.pairs) == len(expected.pairs)
    np.testing.assert_array_equal(graph.edge_vectors[first], -graph.edge_vectors[second])
    np.testing.assert_array_equal(graph.receivers, np.sort(graph.receivers))


def _edges(graph) -> list[tuple]:
    """Senders, receivers and displacements, rounded, in an order of their own."""
    vectors = graph.edge_vectors[graph.edge_mask]
    ends = zip(graph.senders[graph.edge_mask].tolist(), graph.receivers[graph.edge_mask].tolist())
    return sorted((*end, *np.round(vector, 8).tolist()) for end, vector in zip(ends, vectors + 0.0))


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_a_moved_structure_has_the_energy_of_its_new_place(name, request, model):
    field, evaluator = StructureEvaluator(model), Evaluator(model, 1)
    for moved in _path(request.getfixturevalue(name)):
        found = field(moved)

        evaluation = evaluator.evaluate([moved])
        [energy], [expected] = evaluation.total_energies(model), evaluation.predictions
        assert found.energy == pytest.approx(energy, rel=1e-10) and found.energies.sum() == pytest.approx(found.energy, rel=1e-12)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-9)
        if name == "crystal":
            np.testing.assert_allclose(found.stress, expected.stress, atol=1e-10)
        else:
            assert found.stress is None


def test_a_change_of_the_cell_or_of_an_element_is_seen(crystal, model):
    field = StructureEvaluator(model)
    field(crystal)
    strained = dataclasses.replace(crystal, cell=1.02 * crystal.cell)
    other = dataclasses.replace(crystal, atomic_numbers=np.array([6, 6, 1]))

    for changed in (strained, other, crystal):
        assert field(changed).energy == pytest.approx(StructureEvaluator(model, field.program)(changed).energy, rel=1e-12)
    assert len({round(field(changed).energy, 6) for changed in (strained, other, crystal)}) == 3


def test_arrays_that_are_changed_in_place_are_seen(molecule, model):
    """As ASE's integrators move atoms."""
    field, positions = StructureEvaluator(model), molecule.positions.copy()
    moving = dataclasses.replace(molecule, positions=positions)
    before = field(moving).energy
    positions[0] += 0.3
    after = field(moving).energy
    assert abs(after - before) > 1e-3
    assert after == pytest.approx(StructureEvaluator(model, field.program)(moving).energy, rel=1e-12)

    field, numbers = StructureEvaluator(model, field.program), molecule.atomic_numbers.copy()
    changed = dataclasses.replace(molecule, atomic_numbers=numbers)
    before = field(changed).energy
    numbers[0] = 8
    assert abs(field(changed).energy - before) > 1e-3


def _fragments(molecule, distance: float):
    """The molecule twice in one structure, so far apart, Å."""
    positions = np.concatenate([molecule.positions, molecule.positions + distance * np.array([0.6, 0.0, 0.8])])
    return dataclasses.replace(molecule, atomic_numbers=np.tile(molecule.atomic_numbers, 2), positions=positions, energy=None, forces=None)


def _forces_in_training(model, structure):
    """As the training and `mace-tp evaluate` compute them."""
    [prediction] = Evaluator(model, 1).evaluate([structure]).predictions
    return prediction.forces


def _forces_in_dynamics(model, structure):
    """As the calculator and `mace-tp md` compute them after a step within the skin."""
    field = StructureEvaluator(model)
    field(dataclasses.replace(structure, positions=structure.positions + 0.1))
    return field(structure).forces


@pytest.mark.parametrize("forces", [_forces_in_training, _forces_in_dynamics])
def test_digits_of_float32_forces_do_not_depend_on_the_extent_of_a_structure(architecture, statistics, molecule, forces):
    shape = dataclasses.replace(architecture, l_max=1, correlation=2, radial_mlp=[8])
    model = create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float32), seed=0)

    near, far = (forces(model, _fragments(molecule, distance)) for distance in (20.0, 2e4))

    assert np.abs(near).max() > 0.1
    np.testing.assert_allclose(far, near, atol=1e-6 * np.abs(near).max(), rtol=0)
