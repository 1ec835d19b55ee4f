"""Laws of direct forces, and what they share with those of the gradient: the energy and its parameters."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
import pytest

from mace_tp.data.buckets import Bucket
from mace_tp.evaluation.metrics import comparable_stress, error_sums, summarize
from mace_tp.graph import GraphBatch, displaced
from mace_tp.model.parameters import named_parameters
from mace_tp.model.prediction import Prediction
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import create_model, load_model, save_model
from mace_tp.tensor_products.registry import TensorProductConfig
from mace_tp.training.loss import LossWeights
from mace_tp.training.optimizer import make_optimizer
from mace_tp.training.state import initial_state
from mace_tp.training.step import Control, make_train_step

PRODUCTS = ("cg", "spherical_grid", "matrix")
LAYERS = {"two layers": {}, "one layer": {"num_interactions": 1}}


@pytest.fixture(scope="module")
def light(architecture):
    """A light model that reads forces directly."""
    return dataclasses.replace(architecture, radial_mlp=[8], num_channels=3, correlation=2, forces="direct")


@pytest.fixture(scope="module", params=[*[(name, "two layers") for name in PRODUCTS], ("cg", "one layer")], ids="-".join)
def potential(request, make_model, light) -> Callable[[GraphBatch], Prediction]:
    product, layers = request.param
    architecture = dataclasses.replace(light, **LAYERS[layers])
    graphdef, params = make_model(architecture, tensor_product=TensorProductConfig(product, product))
    predict = jax.jit(make_predict(graphdef))
    return lambda batch: predict(params, batch)


def _assert_same(actual: jax.Array, expected: jax.Array) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("parity", [1, -1], ids=["rotation", "rotation+inversion"])
def test_forces_turn_with_the_structure(batch, potential, parity):
    matrix, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    matrix = parity * matrix * np.linalg.det(matrix)
    turned = batch.replace(edge_vectors=batch.edge_vectors @ matrix.T, cell=batch.cell @ matrix.T)

    here, there = potential(batch), potential(turned)

    assert np.abs(here.forces[:7]).max() > 1e-3, "forces that are zero turn, too"
    _assert_same(there.forces, here.forces @ matrix.T)
    _assert_same(there.energy, here.energy)


def test_translation_changes_nothing(make_batch, molecule, potential):
    moved = dataclasses.replace(molecule, positions=molecule.positions + np.array([1.7, -0.4, 2.2]))

    _assert_same(potential(make_batch(moved)).forces, potential(make_batch(molecule)).forces)


def test_order_of_the_atoms_does_not_matter(make_batch, molecule, crystal, potential):
    order = [2, 0, 3, 1]
    shuffled = dataclasses.replace(
        molecule, atomic_numbers=molecule.atomic_numbers[order], positions=molecule.positions[order], forces=None
    )

    here, there = (potential(make_batch(first, crystal)).forces for first in (molecule, shuffled))

    _assert_same(there[:4], here[np.array(order)])
    _assert_same(there[4:], here[4:])


def test_forces_of_a_structure_sum_to_zero(batch, potential):
    forces = potential(batch).forces

    for atoms in (slice(0, 4), slice(4, 7)):
        assert np.abs(forces[atoms]).max() > 1e-4
        np.testing.assert_allclose(forces[atoms].sum(axis=0), 0, atol=1e-12)


def test_an_atom_alone_feels_nothing_and_padding_neither(batch, potential):
    assert not potential(batch).forces[7:].any()


def test_padding_changes_nothing(make_batch, molecule, crystal, lone_atom, batch, potential):
    wide = potential(make_batch(molecule, crystal, lone_atom, bucket=Bucket(nodes=15, edges=320, graphs=6, pairs=161)))

    _assert_same(wide.forces[:8], potential(batch).forces[:8])


def test_direct_forces_are_not_the_slope_of_the_energy(make_model, light, batch):
    graphdef, params = make_model(light)
    direct = make_predict(graphdef)

    nowhere = np.zeros((batch.num_nodes, 3))
    slope = jax.jit(jax.grad(lambda displacements: direct(params, displaced(batch, displacements)).energy.sum()))(nowhere)

    assert np.abs(slope + jax.jit(direct)(params, batch).forces).max() > 1e-2


@pytest.mark.parametrize("layers", LAYERS)
def test_a_seed_means_the_same_energy_whatever_the_forces_are(light, statistics, batch, layers):
    predictions, parameters = {}, {}
    for forces in ("direct", "gradient"):
        architecture = dataclasses.replace(light, forces=forces, **LAYERS[layers])
        model = create_model(architecture, TensorProductConfig(), statistics, np.dtype(np.float64), seed=4)
        predictions[forces] = jax.jit(make_predict(model.graphdef))(model.params, batch)
        parameters[forces] = named_parameters(model.params)

    np.testing.assert_allclose(predictions["direct"].energy, predictions["gradient"].energy, rtol=1e-13)
    own = parameters["direct"].keys() - parameters["gradient"].keys()
    assert own and all(name.startswith("forces.") for name in own)
    for name, value in parameters["gradient"].items():
        np.testing.assert_array_equal(value, parameters["direct"][name], err_msg=name)


def test_forces_are_as_large_as_those_of_the_data_at_the_start(light, statistics, batch):
    architecture = dataclasses.replace(light, num_channels=32)
    forces = []
    for seed in range(3):
        model = create_model(architecture, TensorProductConfig(), statistics, np.dtype(np.float64), seed)
        forces.append(jax.jit(make_predict(model.graphdef))(model.params, batch).forces[:7])

    assert 0.05 < np.sqrt(np.mean(np.square(forces))) / statistics.scale < 20, "a factor of twenty, for seven atoms and few neighbors"


def test_a_training_lowers_the_loss_without_a_second_derivative(make_model, light, batch):
    optimizer = make_optimizer(amsgrad=True, beta1=0.9, beta2=0.999, weight_decay=0.0, max_grad_norm=10.0)
    losses, flops = {}, {}
    for forces in ("direct", "gradient"):
        graphdef, params = make_model(dataclasses.replace(light, l_max=1, forces=forces))
        step = make_train_step(make_predict(graphdef), optimizer)
        state, losses[forces] = initial_state(params, optimizer), []
        control = jax.tree.map(np.float64, Control(0.03, LossWeights(1.0, 10.0, 0.0), 0.9))
        for _ in range(60 if forces == "direct" else 1):
            state, loss = step(state, batch, control)
            losses[forces].append(float(loss))
        flops[forces] = step.flops()

    assert losses["direct"][-1] < 0.5 * losses["direct"][0]
    assert flops["direct"] < 0.7 * flops["gradient"]


def test_a_stress_that_is_not_predicted_counts_nowhere(potential, batch):
    prediction = potential(batch)

    assert prediction.stress is None and batch.stress_mask.any()
    assert not comparable_stress(prediction, batch)[1].any()
    errors = summarize(error_sums(prediction, batch))
    assert "force_mae" in errors and "stress_mae" not in errors


def test_a_model_with_direct_forces_is_read_as_it_was_written(light, statistics, batch, tmp_path):
    created = create_model(light, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)
    save_model(tmp_path, created, {})

    read = load_model(tmp_path)

    assert read.architecture == light
    before, after = (jax.jit(make_predict(m.graphdef))(m.params, batch) for m in (created, read))
    np.testing.assert_array_equal(before.forces, after.forces)
