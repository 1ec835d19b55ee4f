"""Checkpoints: what an optimizer that knows every parameter by itself would write."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mace_tp.training.checkpoint import Checkpoints, Progress
from mace_tp.training.optimizer import decay_mask, make_optimizer
from mace_tp.training.state import TrainState, initial_state, name_moments

OPTIMIZER = make_optimizer(amsgrad=False, beta1=0.9, beta2=0.99, weight_decay=0.1, max_grad_norm=1.0)


def _parameters(seed: int) -> dict[str, jax.Array]:
    """Of equal size and equal shape, so that a wrong order shows in the values alone."""
    rng = np.random.default_rng(seed)
    shapes = {"product_basis": (3, 4), "embedding": (4, 3), "readout": (3, 4), "scale": (1,)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


def _updated(optimizer: optax.GradientTransformation) -> TrainState:
    """The state after two updates, of which clipping and decay are a good part."""
    state = initial_state(_parameters(0), optimizer)
    for seed in (1, 2):
        updates, opt_state = optimizer.update(_parameters(seed), state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    return state


def _both() -> tuple[TrainState, TrainState]:
    """Of our optimizer, and of the same one without vectors: Adam on each parameter."""
    on_trees = optax.chain(
        optax.clip_by_global_norm(1.0), optax.add_decayed_weights(0.1, mask=decay_mask), optax.scale_by_adam(0.9, 0.99), optax.scale(-1.0)
    )
    return _updated(OPTIMIZER), _updated(on_trees)


def _assert_equal(actual: TrainState, expected: TrainState) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), actual, expected)


def test_moments_have_the_names_of_their_parameters():
    ours, on_trees = _both()

    _assert_equal(name_moments(ours), on_trees)


def test_a_checkpoint_of_moments_by_name_continues_as_vectors(tmp_path):
    ours, on_trees = _both()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(on_trees, on_trees.params, Progress(epoch=3))

    state, _, progress = checkpoints.restore(initial_state(_parameters(0), OPTIMIZER), _parameters(0))

    checkpoints.close()
    assert progress.epoch == 3
    _assert_equal(state, ours)
