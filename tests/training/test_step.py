"""The compiled training step: it learns, compiles once per shape, consumes its state and averages parameters."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mace_tp.data.buckets import Bucket
from mace_tp.evaluation.batches import make_eval_step
from mace_tp.evaluation.metrics import error_sums
from mace_tp.graph import GraphBatch
from mace_tp.model.parameters import Params
from mace_tp.model.prediction import Prediction
from mace_tp.model.programs import CompiledStep, make_predict
from mace_tp.tensor_products.registry import TensorProductConfig
from mace_tp.training.loss import LossWeights, weighted_loss
from mace_tp.training.optimizer import make_optimizer
from mace_tp.training.state import TrainState, initial_state
from mace_tp.training.step import Control, make_train_step

OPTIMIZER = make_optimizer(amsgrad=True, beta1=0.9, beta2=0.999, weight_decay=5e-7, max_grad_norm=10.0)


def _control(
    learning_rate: float = 0.01, energy_weight: float = 1.0, forces_weight: float = 10.0, ema_decay: float = 0.9, dtype: type = np.float64
) -> Control:
    control = Control(learning_rate, LossWeights(energy_weight, forces_weight, stress=10.0), ema_decay)
    return jax.tree.map(lambda value: np.asarray(value, dtype), control)


class Counted:
    """A prediction that counts how often it is traced."""

    def __init__(self, predict: Callable[[Params, GraphBatch], Prediction]) -> None:
        self.predict = predict
        self.num_traces = 0

    def __call__(self, params: Params, batch: GraphBatch) -> Prediction:
        self.num_traces += 1
        return self.predict(params, batch)


@pytest.fixture(scope="module")
def light_model(make_model, architecture) -> tuple[nnx.GraphDef, Params]:
    """The smallest that has both kinds of layers: its step compiles in a fraction of the time."""
    return make_model(dataclasses.replace(architecture, l_max=1, hidden_irreps="0e", correlation=2, radial_mlp=[8]))


@pytest.fixture(scope="module")
def predict(light_model, architecture) -> Callable[[Params, GraphBatch], Prediction]:
    return make_predict(light_model[0])


@pytest.fixture(scope="module")
def counted(predict) -> Counted:
    return Counted(predict)


@pytest.fixture(scope="module")
def train_step(counted) -> CompiledStep:
    return make_train_step(counted, OPTIMIZER)


@pytest.fixture
def state(light_model) -> TrainState:
    # A copy, for the step consumes it.
    return initial_state(jax.tree.map(jnp.copy, light_model[1]), OPTIMIZER)


def _toy_step(dtype: type = np.float64) -> tuple[Counted, CompiledStep, TrainState]:
    """A potential of one parameter per direction, whose step compiles in no time."""

    def predict(params: Params, batch: GraphBatch) -> Prediction:
        forces = batch.edge_vectors[: batch.num_nodes] * params["stiffness"]
        zeros = jnp.zeros(batch.num_graphs, forces.dtype)
        return Prediction(zeros, forces[:, 0], forces, stress=zeros[:, None, None] * jnp.ones((3, 3), forces.dtype))

    counted = Counted(predict)
    return counted, make_train_step(counted, OPTIMIZER), initial_state({"stiffness": jnp.array([0.5, -0.2, 0.1], dtype)}, OPTIMIZER)


def test_flops_are_zero_before_the_first_step():
    assert _toy_step()[1].flops() == 0


def test_padding_changes_no_derivative_by_parameters(make_batch, molecule, crystal, lone_atom, light_model, predict):
    @jax.jit
    def gradient(params: Params, batch: GraphBatch) -> Params:
        def loss(params: Params) -> jax.Array:
            prediction = predict(params, batch)
            return sum(jnp.sum(values**2) for values in (prediction.energy, prediction.forces, prediction.stress))

        return jax.grad(loss)(params)

    params = light_model[1]
    here = gradient(params, make_batch(molecule, crystal))
    wide = gradient(params, make_batch(molecule, crystal, bucket=Bucket(nodes=15, edges=320, graphs=6, pairs=140)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10 * max(1, np.abs(a).max())), here, wide)
    assert all(np.isfinite(values).all() for values in jax.tree.leaves(gradient(params, make_batch(lone_atom)))), "no edges at all"


def test_loss_falls(train_step, state, batch):
    losses = []
    for _ in range(30):
        state, loss = train_step(state, batch, _control())
        losses.append(loss)
    losses = np.array(losses)
    assert losses[-1] < 0.5 * losses[0]
    assert state.step == 30


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"rank": 2}], ids=["rank 1", "rank 2"])
def test_trainings_with_gaunt_and_spherical_grid_are_the_same(make_model, architecture, batch, options):
    """Two ways to compute one map: twenty steps from the same parameters follow the same losses."""
    losses = {}
    for name in ("gaunt", "spherical_grid"):
        product = TensorProductConfig({"name": name, **options}, {"name": name, **options})
        graphdef, params = make_model(dataclasses.replace(architecture, radial_mlp=[8]), tensor_product=product)
        step = make_train_step(make_predict(graphdef), OPTIMIZER)
        state, losses[name] = initial_state(params, OPTIMIZER), []
        for _ in range(20):
            state, loss = step(state, batch, _control())
            losses[name].append(loss)
    assert losses["gaunt"][-1] < 0.5 * losses["gaunt"][0]
    np.testing.assert_allclose(losses["gaunt"], losses["spherical_grid"], rtol=1e-8)


def test_loss_is_that_before_the_update(train_step, state, batch, predict):
    params = jax.tree.map(jnp.copy, state.params)
    _, loss = train_step(state, batch, _control())
    expected = weighted_loss(jax.jit(predict)(params, batch), batch, _control().weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-10)


def test_changes_of_rate_weights_and_average_compile_nothing(counted, train_step, state, batch):
    state, _ = train_step(state, batch, _control())
    before = counted.num_traces, train_step.compile_seconds
    for control in (
        _control(learning_rate=1e-3),
        _control(energy_weight=1000.0, forces_weight=0.0),
        _control(ema_decay=0.5),
    ):
        state, _ = train_step(state, batch, control)
    assert (counted.num_traces, train_step.compile_seconds) == before


def test_one_compilation_per_shape(make_batch, molecule, crystal):
    counted, step, state = _toy_step()
    shapes = [Bucket(nodes=8, edges=128, graphs=3, pairs=65), Bucket(nodes=12, edges=128, graphs=3, pairs=65)]
    seconds = []
    for bucket in (*shapes, *shapes):
        for configuration in (molecule, crystal):
            state, _ = step(state, make_batch(configuration, bucket=bucket), _control())
        seconds.append(step.compile_seconds)
    assert counted.num_traces == step.num_compilations == len(shapes)
    assert 0 < seconds[0] < seconds[1] == seconds[2] == seconds[3] and step.flops() > 0


def test_state_is_consumed(batch):
    _, step, state = _toy_step()
    after, _ = step(state, batch, _control())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_learning_rate_scales_the_update(batch):
    steps = []
    for learning_rate in (0.0, 1e-3, 2e-3):
        _, step, state = _toy_step()
        start = np.array(state.params["stiffness"])
        after, _ = step(state, batch, _control(learning_rate=learning_rate))
        steps.append(np.array(after.params["stiffness"]) - start)
    np.testing.assert_array_equal(steps[0], 0)
    assert np.abs(steps[1]).min() > 1e-4
    np.testing.assert_allclose(steps[2], 2 * steps[1], rtol=1e-10)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_average_follows_the_rule_of_torch_ema(batch, decay):
    """ema ← d ema + (1 - d) params after update n, with d = min(decay, (1 + n) / (10 + n))."""
    _, step, state = _toy_step()
    expected = np.array(state.ema_params["stiffness"])
    for n in range(1, 8):
        state, _ = step(state, batch, _control(learning_rate=0.1, ema_decay=decay))
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * np.array(state.params["stiffness"])
        # The step computes d in float32.
        np.testing.assert_allclose(state.ema_params["stiffness"], expected, atol=1e-7)
    assert decay == 0 or np.abs(expected - np.array(state.params["stiffness"])).max() > 1e-3


def test_evaluation_returns_the_prediction_and_its_errors(batch):
    counted, _, state = _toy_step()
    prediction, sums = make_eval_step(counted)(state.params, batch)
    np.testing.assert_allclose(prediction.forces, batch.edge_vectors[: batch.num_nodes] * np.array([0.5, -0.2, 0.1]), rtol=1e-14)
    for name, value in vars(error_sums(prediction, batch)).items():
        np.testing.assert_allclose(getattr(sums, name), value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_step_keeps_the_dtype(batch, dtype):
    """Also with 64-bit numbers switched on, as they are here; another dtype would compile the next step again."""
    counted, step, state = _toy_step(dtype)
    batch = jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype == np.float64 else leaf, batch)
    before = jax.tree.map(lambda leaf: leaf.dtype, state)
    for _ in range(2):
        state, loss = step(state, batch, _control(dtype=dtype))
    assert jax.tree.map(lambda leaf: leaf.dtype, state) == before
    assert loss.dtype == dtype and counted.num_traces == 1
