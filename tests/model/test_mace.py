"""Laws of energies, forces and stress that hold for any parameters and every tensor product, and the number of parameters."""

import dataclasses
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tensor_product_cases import CASES

from mace_tp.data.buckets import Bucket
from mace_tp.data.configuration import Configuration
from mace_tp.graph import GraphBatch, displaced
from mace_tp.model.architecture import Architecture
from mace_tp.model.parameters import Params
from mace_tp.model.prediction import Prediction
from mace_tp.model.programs import make_predict
from mace_tp.tensor_products.algebra.symmetric_basis import symmetric_basis
from mace_tp.tensor_products.registry import TensorProductConfig

# Å; the error of a central difference is about its square times a third derivative.
STEP = 1e-4


def _rotation() -> np.ndarray:
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    return rotation * np.linalg.det(rotation)


def _transform(batch: GraphBatch, matrix: np.ndarray) -> GraphBatch:
    """The batch with every vector multiplied by a matrix."""
    return batch.replace(edge_vectors=batch.edge_vectors @ matrix.T, cell=batch.cell @ matrix.T)


def _assert_close(actual: Prediction, desired: Prediction, tolerance: float) -> None:
    for name in ("energy", "forces", "stress"):
        scale = np.abs(getattr(desired, name)).max()
        np.testing.assert_allclose(getattr(actual, name), getattr(desired, name), atol=tolerance * scale, rtol=0, err_msg=name)


@pytest.fixture(scope="module", params=CASES)
def model(request, make_model) -> tuple[nnx.GraphDef, Params]:
    """The small model with each tensor product and each of its options."""
    return make_model(tensor_product=TensorProductConfig(**request.param))


@pytest.fixture(scope="module")
def potential(model, architecture) -> Callable[[GraphBatch], Prediction]:
    graphdef, params = model
    predict = jax.jit(make_predict(graphdef))
    return lambda batch: predict(params, batch)


def test_prediction_is_not_trivial(batch, potential):
    prediction = potential(batch)
    assert (np.abs(prediction.energy[:2]) > 0.1).all() and np.abs(prediction.forces[:7]).min() > 1e-3
    assert np.abs(prediction.stress[1]).min() > 1e-5


@pytest.mark.parametrize("parity", [1, -1], ids=["rotation", "rotation+inversion"])
def test_forces_and_stress_turn_with_the_structure(batch, potential, parity):
    matrix = parity * _rotation()
    here, there = potential(batch), potential(_transform(batch, matrix))
    turned = here.replace(forces=here.forces @ matrix.T, stress=matrix @ here.stress @ matrix.T)
    _assert_close(there, turned, 1e-11)


def test_a_molecule_far_from_the_origin_is_the_same(make_batch, molecule, potential):
    away = dataclasses.replace(molecule, positions=molecule.positions + 1e4)
    _assert_close(potential(make_batch(away)), potential(make_batch(molecule)), 1e-10)


def test_order_of_the_atoms_does_not_matter(make_batch, molecule, crystal, potential):
    def shuffle(configuration: Configuration, order: list[int]) -> Configuration:
        return dataclasses.replace(
            configuration, atomic_numbers=configuration.atomic_numbers[order], positions=configuration.positions[order], forces=None
        )

    here = potential(make_batch(molecule, crystal))
    there = potential(make_batch(shuffle(molecule, [2, 0, 3, 1]), shuffle(crystal, [1, 2, 0])))

    forces = here.forces.at[:7].set(here.forces[np.array([2, 0, 3, 1, 5, 6, 4])])
    _assert_close(there, here.replace(forces=forces), 1e-11)


def test_elements_differ(make_batch, molecule, potential):
    exchanged = dataclasses.replace(molecule, atomic_numbers=np.array([8, 6, 1, 1]))
    here, there = potential(make_batch(molecule)), potential(make_batch(exchanged))
    assert abs(here.energy[0] - there.energy[0]) > 1e-2


def test_forces_are_minus_the_slope_of_the_energy(batch, potential):
    expected = np.zeros((7, 3))
    for index in np.ndindex(expected.shape):
        energies = [potential(_displaced(batch, index, step)).energy.sum() for step in (STEP, -STEP)]
        expected[index] = -(energies[0] - energies[1]) / (2 * STEP)
    np.testing.assert_allclose(potential(batch).forces[:7], expected, atol=1e-6 * np.abs(expected).max(), rtol=0)


def _displaced(batch: GraphBatch, index: tuple[int, ...], step: float) -> GraphBatch:
    displacements = np.zeros((batch.num_nodes, 3))
    displacements[index] = step
    return displaced(batch, displacements)


def test_stress_is_the_slope_of_the_energy_by_strain_over_volume(batch, potential, crystal):
    expected = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[i, j] += STEP / 2
        strain[j, i] += STEP / 2
        energies = [potential(_transform(batch, np.eye(3) + sign * strain)).energy[1] for sign in (1, -1)]
        expected[i, j] = (energies[0] - energies[1]) / (2 * STEP) / abs(np.linalg.det(crystal.cell))
    stress = potential(batch).stress
    np.testing.assert_allclose(stress[1], expected, atol=1e-6 * np.abs(expected).max(), rtol=0)
    assert not stress[0].any(), "a molecule has no volume"


def test_forces_of_a_structure_sum_to_zero(batch, potential):
    forces = potential(batch).forces
    np.testing.assert_allclose(forces[:4].sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(forces[4:7].sum(axis=0), 0, atol=1e-12)


def test_padding_changes_nothing(make_batch, molecule, crystal, lone_atom, batch, potential):
    wide = potential(make_batch(molecule, crystal, lone_atom, bucket=Bucket(nodes=15, edges=320, graphs=6, pairs=161)))
    here = potential(batch)
    cut = Prediction(wide.energy[:4], wide.node_energy[:12], wide.forces[:12], wide.stress[:4])
    _assert_close(cut, here, 1e-12)
    assert not here.energy[3:].any() and not here.forces[8:].any() and not here.stress[3:].any()
    assert not wide.energy[3:].any() and not wide.forces[8:].any() and not wide.stress[3:].any()


def test_neighbors_in_the_batch_do_not_matter(make_batch, molecule, crystal, batch, potential):
    alone, together = potential(make_batch(crystal)), potential(batch)
    np.testing.assert_allclose(alone.energy[0], together.energy[1], rtol=1e-12)
    np.testing.assert_allclose(alone.forces[:3], together.forces[4:7], atol=1e-12)
    np.testing.assert_allclose(alone.stress[0], together.stress[1], atol=1e-12)


def test_supercell_has_a_multiple_of_the_energy(make_batch, crystal, potential):
    numbers, positions = np.tile(crystal.atomic_numbers, 2), np.concatenate([crystal.positions, crystal.positions + crystal.cell[1]])
    double = Configuration(numbers, positions, crystal.cell * np.array([[1], [2], [1]]), crystal.pbc, None, None, None, "", "supercell")
    single, pair = potential(make_batch(crystal)), potential(make_batch(double))
    np.testing.assert_allclose(pair.energy[0], 2 * single.energy[0], rtol=1e-10)
    np.testing.assert_allclose(pair.forces[:6], np.tile(single.forces[:3], (2, 1)), atol=1e-10)
    np.testing.assert_allclose(pair.stress[0], single.stress[0], atol=1e-10)


@pytest.mark.parametrize("distance, is_smooth", [(1e-3, True), (0.5, False)], ids=["at the cutoff", "well inside"])
def test_edge_fades_out_at_the_cutoff(make_batch, architecture, potential, distance, is_smooth):
    """With and without the edge between the ends of a chain: no difference just inside the cutoff; further in there is one."""
    far = architecture.cutoff - distance
    positions = np.array([[0.0, 0.0, 0.0], [far / 2, 0.9, 0.2], [far, 0.0, 0.0]])
    chain = Configuration(np.array([6, 8, 1]), positions, np.zeros((3, 3)), (False,) * 3, None, None, None, "", "chain")
    batch = make_batch(chain)
    is_long = np.linalg.norm(batch.edge_vectors, axis=1) > far - 1e-9
    assert is_long.sum() == 2

    here, there = potential(batch), potential(batch.replace(edge_mask=batch.edge_mask & ~is_long))

    # The envelope and its first two derivatives vanish, and so does every Bessel function: energy ~ distance⁴, forces ~ distance³.
    if is_smooth:
        assert abs(here.energy[0] - there.energy[0]) < 1e-9
        assert np.abs(here.forces - there.forces).max() < 1e-6
    else:
        assert abs(here.energy[0] - there.energy[0]) > 1e-3
        assert np.abs(here.forces - there.forces).max() > 1e-3


def test_forces_do_not_jump_when_an_atom_crosses_the_cutoff(make_batch, architecture, potential):
    def at(distance: float) -> Prediction:
        positions = np.array([[0.0, 0.0, 0.0], [1.4, 0.9, 0.2], [distance, 0.0, 0.0]])
        chain = Configuration(np.array([6, 8, 1]), positions, np.zeros((3, 3)), (False,) * 3, None, None, None, "", "chain")
        return potential(make_batch(chain))

    step = 1e-5
    inside, outside = at(architecture.cutoff - step), at(architecture.cutoff + step)

    np.testing.assert_allclose(outside.energy[0] - inside.energy[0], -2 * step * inside.forces[2, 0], atol=1e-8)
    np.testing.assert_allclose(outside.forces, inside.forces, atol=1e-2 * np.abs(inside.forces).max())


@pytest.fixture(scope="module")
def residual_first(make_model, architecture) -> Callable[[GraphBatch], Prediction]:
    """A light model whose first layer has a residual self-connection."""
    graphdef, params = make_model(dataclasses.replace(architecture, first_interaction="residual", l_max=1, correlation=2, radial_mlp=[8]))
    predict = jax.jit(make_predict(graphdef))
    return lambda batch: predict(params, batch)


def _atoms(*atomic_numbers: int) -> list[Configuration]:
    return [
        Configuration(np.array([z]), np.full((1, 3), 0.3 * z), np.zeros((3, 3)), (False,) * 3, None, None, None, "", "atom")
        for z in atomic_numbers
    ]


def test_atom_alone_has_the_shift_as_its_energy(make_batch, statistics, potential):
    prediction = potential(make_batch(*_atoms(1, 6, 8)))
    np.testing.assert_allclose(prediction.energy[:3], statistics.shift, rtol=1e-14)
    assert not prediction.forces.any() and not prediction.stress.any()


def test_atom_alone_has_a_constant_of_its_element_with_a_residual_first(make_batch, statistics, residual_first):
    prediction = residual_first(make_batch(*_atoms(1, 6, 6)))
    assert prediction.energy[1] == prediction.energy[2] != prediction.energy[0]
    assert np.abs(prediction.energy[:3] - statistics.shift).min() > 1e-3
    assert not prediction.forces.any() and not prediction.stress.any()


def test_number_of_parameters_differs_from_mace_torch_only_in_the_contraction(make_model, statistics):
    # mace-torch 0.3.16 with four elements, 64 channels, and the readout and radial MLP of its defaults.
    total, contraction = 269_136, 29_184
    irreps = e3nn.s2_irreps(3)
    scalars, vectors = ([symmetric_basis(irreps, e3nn.Irrep(ir), order).table.shape[0] for order in (1, 2, 3)] for ir in ("0e", "1o"))
    ours = 4 * 64 * (sum(scalars + vectors) + sum(scalars))  # the first layer has both, the last layer scalars
    assert (scalars, vectors, ours) == ([1, 4, 8], [1, 3, 12], 10_752)

    four_elements = dataclasses.replace(statistics, atomic_numbers=(1, 6, 7, 8))
    _, params = make_model(Architecture(l_max=3, hidden_irreps="0e+1o", correlation=3, num_channels=64), four_elements)

    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == total - contraction + ours == 250_704


def test_float32_agrees_with_float64(batch, model, architecture, potential):
    graphdef, params = model

    def single(tree):
        return jax.tree.map(lambda leaf: leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf, tree)

    prediction = jax.jit(make_predict(graphdef))(single(params), single(batch))

    assert prediction.energy.dtype == prediction.forces.dtype == prediction.stress.dtype == jnp.float32
    _assert_close(prediction, potential(batch), 1e-4)
