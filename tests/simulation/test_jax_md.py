"""The energy function for jax-md: the energy and forces of the calculator, and, where jax-md is installed, its whole run against ASE's."""

import dataclasses

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

from mace_tp.errors import InputError
from mace_tp.model.potential import Potential
from mace_tp.model.saved_model import create_model
from mace_tp.simulation.calculator import Calculator
from mace_tp.simulation.jax_md import edge_energy, mace_neighbor_list
from mace_tp.tensor_products.registry import TensorProductConfig

NUM_STEPS = 50


@pytest.fixture(scope="module")
def model(architecture, statistics) -> Potential:
    shape = dataclasses.replace(architecture, l_max=1, correlation=2, radial_mlp=[8])
    return create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)


@pytest.fixture(scope="module")
def atoms(molecule, model) -> ase.Atoms:
    """A molecule in a periodic box in which it sees itself only once."""
    atoms = ase.Atoms(molecule.atomic_numbers, molecule.positions, cell=[12.0] * 3, pbc=True)
    atoms.calc = Calculator(model)
    return atoms


def test_energy_and_forces_are_those_of_the_calculator(atoms, model):
    """All others as neighbors, and two empty places."""
    num_atoms = len(atoms)
    table = jnp.array([[j for j in range(num_atoms) if j != i] + [num_atoms, num_atoms + 3] for i in range(num_atoms)])
    energy = edge_energy(model, atoms.numbers)

    def total(positions: jax.Array) -> jax.Array:
        return energy(positions[:, None] - positions[jnp.minimum(table, num_atoms - 1)], table)

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.asarray(atoms.positions))

    assert value == pytest.approx(_interaction_energy(atoms, model), rel=1e-10)
    np.testing.assert_allclose(-gradient, atoms.get_forces(), atol=1e-10)


def _interaction_energy(atoms: ase.Atoms, model: Potential) -> float:
    zero = dict(zip(model.statistics.atomic_numbers, model.statistics.atomic_energies))
    return atoms.get_potential_energy() - sum(zero[z] for z in atoms.numbers)


@pytest.mark.parametrize("scale", [1.0, 1.03])
def test_a_box_of_a_barostat_gives_the_energy_of_the_scaled_cell(scale, atoms, model):
    space = pytest.importorskip("jax_md.space")
    box, places = 12.0 * jnp.eye(3), jnp.asarray(atoms.get_scaled_positions())
    displacement, _ = space.periodic_general(box, fractional_coordinates=True)
    neighbor_fn, energy_fn = mace_neighbor_list(displacement, box, model, atoms.numbers, fractional_coordinates=True)
    scaled = atoms.copy()
    scaled.set_cell(scale * scaled.cell, scale_atoms=True)
    scaled.calc = atoms.calc

    energy = energy_fn(places, neighbor_fn.allocate(places, box=scale * box), box=scale * box, t=0.0)

    # jax-md keeps the box of its neighbors in float32, the displacement has the one that was given.
    assert energy == pytest.approx(_interaction_energy(scaled, model), rel=1e-8)


def test_the_skin_is_counted_once(model):
    """Four atoms on a line, 4.0 + 0.5 Å in reach: the third is a neighbor of the first, the fourth is not."""
    space = pytest.importorskip("jax_md.space")
    neighbor_fn, _ = mace_neighbor_list(space.free()[0], 100.0, model, [6, 6, 6, 6], skin=0.5)
    places = jnp.array([[x, 0.0, 0.0] for x in (0.0, 2.2, 4.4, 4.8)])
    assert set(np.asarray(neighbor_fn.allocate(places).idx[0]).tolist()) - {4} == {1, 2}


@pytest.mark.parametrize(
    "box, message",
    [
        (8.0, "box: is 8 Å wide, which must be more than twice the cutoff of 4 Å; repeat the structure"),
        (np.array([20.0, 20.0, 7.5]), "box: is 7.5 Å wide"),
        (np.array([[10.0, 10.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 20.0]]), "box: is 7.071 Å wide, .* of 4 Å and the skin of 0.5"),
    ],
    ids=["cubic", "rectangular", "skewed"],
)
def test_a_box_in_which_an_atom_sees_two_images_of_another_is_refused(box, message, model):
    space = pytest.importorskip("jax_md.space")
    displacements = [space.periodic_general(box, fractional_coordinates=fractional)[0] for fractional in (True, False)]
    if np.ndim(box) < 2:
        displacements.append(space.periodic(box)[0])
    for displacement, fractional in zip(displacements, (True, False, False)):
        with pytest.raises(InputError, match=message):
            mace_neighbor_list(displacement, box, model, [6], fractional_coordinates=fractional)
    mace_neighbor_list(space.free()[0], box, model, [6])


def test_an_unknown_element_is_named(model):
    with pytest.raises(InputError, match="atom 1: element Si is not one of the model's .H C O."):
        edge_energy(model, [6, 14])


def test_a_run_of_jax_md_is_that_of_ase(atoms, model):
    simulate = pytest.importorskip("jax_md.simulate")
    space = pytest.importorskip("jax_md.space")
    displacement, shift = space.periodic(12.0, wrapped=False)
    neighbor_fn, energy_fn = mace_neighbor_list(displacement, 12.0, model, atoms.numbers)
    positions, timestep = jnp.asarray(atoms.positions), 0.2 * units.fs
    velocities = np.random.default_rng(0).normal(scale=0.05, size=positions.shape)
    neighbor = neighbor_fn.allocate(positions)
    init, apply = simulate.nve(energy_fn, shift, timestep)
    state = init(jax.random.key(0), positions, kT=0.0, mass=jnp.asarray(atoms.get_masses()), neighbor=neighbor)
    state = state.set(momentum=jnp.asarray(velocities * atoms.get_masses()[:, None]))

    @jax.jit
    def run(state, neighbor):
        def step(_, carried):
            state, neighbor = carried
            neighbor = neighbor.update(state.position)
            return apply(state, neighbor=neighbor), neighbor

        return jax.lax.fori_loop(0, NUM_STEPS, step, (state, neighbor))

    state, neighbor = run(state, neighbor)

    assert not neighbor.did_buffer_overflow
    theirs = atoms.copy()
    theirs.calc = atoms.calc
    theirs.set_velocities(velocities)
    VelocityVerlet(theirs, timestep).run(NUM_STEPS)
    assert np.abs(theirs.positions - atoms.positions).max() > 0.05
    np.testing.assert_allclose(state.position, theirs.positions, atol=1e-9)


def test_without_jax_md_it_is_said_how_to_get_it(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jax_md.space", None)
    with pytest.raises(InputError, match="pip install jax-md"):
        mace_neighbor_list(lambda a, b: a - b, 12.0, model, [6])
