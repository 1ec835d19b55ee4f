"""What a training carries from step to step."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

Params = optax.Params


@struct.dataclass
class TrainState:
    """A pytree; with the configuration and the dataset statistics it is all that a checkpoint needs."""

    step: jax.Array  # number of updates made, int32
    params: Params
    ema_params: Params  # exponential moving average; what is evaluated and saved
    opt_state: optax.OptState


def initial_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update, by one program: to compile one for every shape of a parameter takes three times as long."""

    def initialize(params: Params) -> TrainState:
        # The average starts as a copy: the training step donates its input, and one buffer cannot be given away twice.
        ema_params = jax.tree.map(jnp.copy, params)
        return TrainState(step=jnp.zeros((), jnp.int32), params=params, ema_params=ema_params, opt_state=optimizer.init(params))

    return jax.jit(initialize)(params)
