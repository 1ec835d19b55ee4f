"""The training step: loss, gradient and update as one compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mace_tp.graph import GraphBatch
from mace_tp.model.parameters import Params
from mace_tp.model.programs import CompiledStep, Predict
from mace_tp.training.loss import LossWeights, weighted_loss
from mace_tp.training.state import TrainState


@struct.dataclass
class Control:
    """Numbers that may change from step to step without a new compilation."""

    learning_rate: jax.Array | np.ndarray
    weights: LossWeights
    ema_decay: jax.Array | np.ndarray


def make_control(learning_rate: float, weights: LossWeights, ema_decay: float, dtype: np.dtype) -> Control:
    """Arrays instead of Python numbers, because a step is compiled for the types of its arguments."""
    weights = jax.tree.map(lambda weight: np.asarray(weight, dtype), weights)
    return Control(np.asarray(learning_rate, dtype), weights, np.asarray(ema_decay, dtype))


def make_train_step(predict_batch: Predict, optimizer: optax.GradientTransformation) -> CompiledStep:
    """Make the function (state, batch, control) → (state, loss), which consumes the state it is given.

    If the loss or the norm of its gradient is not finite, the state stays as it was and the returned loss is NaN.
    """

    def train_step(state: TrainState, batch: GraphBatch, control: Control) -> tuple[TrainState, jax.Array]:
        def loss_of(params: Params) -> jax.Array:
            return weighted_loss(predict_batch(params, batch), batch, control.weights)

        loss, gradient = jax.value_and_grad(loss_of)(state.params)
        return _updated(state, optimizer, loss, gradient, control)

    return CompiledStep(train_step, "the training step", donate_state=True)


@jax.named_scope("optimizer")
def _updated(
    state: TrainState, optimizer: optax.GradientTransformation, loss: jax.Array, gradient: Params, control: Control
) -> tuple[TrainState, jax.Array]:
    """The state after an update, and the loss; the old state and NaN if the loss or the gradient is not finite."""
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = jax.tree.map(lambda p, update: p + control.learning_rate.astype(p.dtype) * update, state.params, updates)
    step = state.step + 1
    # As in torch_ema: at first the average follows the parameters closely, so that it forgets the initial ones.
    decay = jnp.minimum(control.ema_decay, (1 + step) / (10 + step))
    ema_params = jax.tree.map(lambda ema, new: ema + (1 - decay).astype(new.dtype) * (new - ema), state.ema_params, params)
    new = TrainState(step=step, params=params, ema_params=ema_params, opt_state=opt_state)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.global_norm(gradient))
    return jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), new, state), jnp.where(is_finite, loss, jnp.nan)
