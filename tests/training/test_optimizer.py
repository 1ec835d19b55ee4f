"""The optimizer against torch's rules written in numpy, and the schedules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mace_tp.model.parameters import named_parameters
from mace_tp.training.optimizer import decay_mask, make_optimizer
from mace_tp.training.schedule import ConstantSchedule, CosineSchedule, PlateauSchedule

BETA1, BETA2 = 0.9, 0.98


def _plain(*, amsgrad: bool = True, weight_decay: float = 0.0, max_grad_norm: float = math.inf) -> optax.GradientTransformation:
    return make_optimizer(amsgrad=amsgrad, beta1=BETA1, beta2=BETA2, weight_decay=weight_decay, max_grad_norm=max_grad_norm)


def _torch_adam(gradients: np.ndarray, amsgrad: bool) -> np.ndarray:
    """Updates of torch.optim.Adam for a learning rate of one, from its source: the largest v is taken before the correction."""
    first = second = largest = np.zeros(gradients.shape[1:])
    updates = []
    for count, gradient in enumerate(gradients, start=1):
        first = BETA1 * first + (1 - BETA1) * gradient
        second = BETA2 * second + (1 - BETA2) * gradient**2
        largest = np.maximum(largest, second)
        denominator = np.sqrt(largest if amsgrad else second) / np.sqrt(1 - BETA2**count) + 1e-8
        updates.append(-first / (1 - BETA1**count) / denominator)
    return np.stack(updates)


@pytest.mark.parametrize("amsgrad", [True, False])
def test_updates_are_those_of_torch(amsgrad):
    """Over gradients that fall a hundredfold, where the largest second moment matters."""
    gradients = np.random.default_rng(0).normal(size=(300, 5)) * np.logspace(0, -2, 300)[:, None]
    optimizer = _plain(amsgrad=amsgrad)

    @jax.jit
    def run(gradients: jax.Array) -> jax.Array:
        def step(state: optax.OptState, gradient: jax.Array) -> tuple[optax.OptState, jax.Array]:
            updates, state = optimizer.update(gradient, state, jnp.zeros(5))
            return state, updates

        return jax.lax.scan(step, optimizer.init(jnp.zeros(5)), gradients)[1]

    # The bias correction is computed in float32, where 1 - 0.98 has an error of 3e-6.
    np.testing.assert_allclose(run(jnp.asarray(gradients)), _torch_adam(gradients, amsgrad), rtol=1e-5, atol=1e-6)
    assert np.abs(_torch_adam(gradients, True) - _torch_adam(gradients, False)).max() > 0.1


def _names(tree: dict) -> dict[str, bool]:
    """Values of a tree of parameters by their path."""
    return {jax.tree_util.keystr(path, simple=True, separator="."): value for path, value in jax.tree_util.tree_leaves_with_path(tree)}


def test_frozen_parameters_stay_as_they_are_and_do_not_decay(model):
    _, params = model
    frozen = frozenset(name for name in named_parameters(params) if ".product_basis." in name)
    optimizer = make_optimizer(amsgrad=True, beta1=BETA1, beta2=BETA2, weight_decay=0.1, max_grad_norm=10.0, frozen=frozen)

    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)

    moved = {name for name, update in named_parameters(updates).items() if np.any(update)}
    assert frozen and moved == named_parameters(params).keys() - frozen


def test_parameters_that_are_frozen_on_the_way_stay_whatever_momentum_they_had():
    params = {"embedding": jnp.ones(2), "readout": jnp.ones(2)}
    before = _plain()
    _, state = before.update(params, before.init(params), params)
    now = make_optimizer(amsgrad=True, beta1=BETA1, beta2=BETA2, weight_decay=0.0, max_grad_norm=1.0, frozen=frozenset({"embedding"}))

    updates, _ = now.update(jax.tree.map(lambda p: 0.1 * p, params), state, params)

    np.testing.assert_array_equal(updates["embedding"], 0)
    assert np.all(np.asarray(updates["readout"]) != 0)
    assert jax.tree.structure(now.init(params)) == jax.tree.structure(state), "its checkpoints fit"


def test_only_the_linear_after_the_interaction_and_the_product_basis_decay(model):
    names = _names(decay_mask(model[1]))
    decayed = {name.removesuffix(".value") for name, is_decayed in names.items() if is_decayed}
    expected = {f"layers.0.interaction.linear.weights.{irrep}" for irrep in ("0e", "1o", "2e")}
    expected |= {f"layers.1.interaction.linear.weights.{irrep}" for irrep in ("0e", "1o", "2e")}
    expected |= {"layers.0.product_basis.weights", "layers.0.product_basis.linear.weights.0e", "layers.0.product_basis.linear.weights.1o"}
    expected |= {"layers.1.product_basis.weights", "layers.1.product_basis.linear.weights.0e"}
    assert decayed == expected and len(names) > len(decayed)


def test_decay_is_added_to_the_gradient():
    """With no gradient of the loss, Adam's first step on a decayed parameter is its sign, however small the decay."""
    params = {"product_basis": jnp.array([2.0, -3.0]), "embedding": jnp.array([2.0, -3.0])}
    optimizer = _plain(weight_decay=1e-2)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["product_basis"], [-1.0, 1.0], rtol=1e-3)
    np.testing.assert_array_equal(updates["embedding"], 0)


def test_large_gradients_are_scaled_to_the_norm():
    """The second of two gradients is 100 times too long; Adam's moments then know it as one of the norm."""
    params = {"embedding": jnp.zeros(2)}
    small, large = {"embedding": jnp.array([0.6, 0.8])}, {"embedding": jnp.array([60.0, 80.0])}
    clipped, free = _plain(max_grad_norm=1.0), _plain()
    _, state = clipped.update(small, clipped.init(params), params)
    updates, _ = clipped.update(large, state, params)
    _, state = free.update(small, free.init(params), params)
    np.testing.assert_allclose(updates["embedding"], free.update(small, state, params)[0]["embedding"], rtol=1e-6)
    assert np.abs(updates["embedding"] - free.update(large, state, params)[0]["embedding"]).max() > 0.1


@pytest.mark.parametrize(
    "schedule, start, middle, end",
    [
        (ConstantSchedule(), 1.0, 1.0, 1.0),
        (ConstantSchedule(warmup=0.8), 0.0, 0.625, 1.0),
        (CosineSchedule(), 1.0, 0.5, 0.0),
        (CosineSchedule(final=0.2), 1.0, 0.6, 0.2),
        (CosineSchedule(warmup=0.5), 0.0, 1.0, 0.0),
        (CosineSchedule(warmup=0.8), 0.0, 0.625, 0.0),
        (PlateauSchedule(), 1.0, 1.0, 1.0),
        (PlateauSchedule(warmup=0.8), 0.0, 0.625, 1.0),
    ],
)
def test_schedules_at_start_middle_and_end(schedule, start, middle, end):
    assert [schedule(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([start, middle, end], abs=1e-12)


def test_cosine_falls_without_a_jump_after_the_warm_up():
    schedule = CosineSchedule(warmup=0.1, final=0.05)
    factors = [schedule(progress) for progress in np.linspace(0, 1, 1001)]
    assert max(factors) == pytest.approx(1) and np.abs(np.diff(factors)).max() < 0.011
    assert (np.diff(factors[100:]) <= 1e-12).all()


def test_plateau_lowers_the_rate_after_more_bad_epochs_than_its_patience():
    schedule = PlateauSchedule(factor=0.5, patience=2)
    factors = []
    # Improves; three times not, of which one by less than 1e-4 relative; improves; three times not.
    for loss in (2.0, 1.0, 1.5, 0.99995, 1.5, 0.5, 0.6, 0.6, 0.6):
        schedule.observe(loss)
        factors.append(schedule(1.0))
    assert factors == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("schedule", [ConstantSchedule(), CosineSchedule()], ids=["constant", "cosine"])
def test_other_schedules_learn_nothing_from_the_validation_loss(schedule):
    before = schedule(0.4)
    for _ in range(100):
        schedule.observe(1.0)
    assert schedule(0.4) == before
