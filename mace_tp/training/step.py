"""The compiled steps: one update, one evaluation."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mace_tp.graph import GraphBatch
from mace_tp.model.parameters import Params
from mace_tp.model.programs import CompiledStep, Predict
from mace_tp.training.loss import LossWeights, weighted_loss
from mace_tp.training.state import TrainState


@struct.dataclass
class Control:
    """What may change from step to step without compiling again."""

    learning_rate: jax.Array
    weights: LossWeights
    ema_decay: jax.Array


def make_train_step(predict_batch: Predict, optimizer: optax.GradientTransformation) -> CompiledStep:
    """(state, batch, control) → (state, loss). The state given in is consumed.

    Where the loss or the norm of its gradient is not finite, the state stays as it was and the loss that is returned is NaN.
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
    """The state after an update, and the loss; where one of them is not finite, the state as it was and NaN."""
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = jax.tree.map(lambda p, update: p + control.learning_rate.astype(p.dtype) * update, state.params, updates)
    step = state.step + 1
    # As in torch_ema: a young average follows the parameters, so that its start is forgotten.
    decay = jnp.minimum(control.ema_decay, (1 + step) / (10 + step))
    ema_params = jax.tree.map(lambda ema, new: ema + (1 - decay).astype(new.dtype) * (new - ema), state.ema_params, params)
    new = TrainState(step=step, params=params, ema_params=ema_params, opt_state=opt_state)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.global_norm(gradient))
    return jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), new, state), jnp.where(is_finite, loss, jnp.nan)
