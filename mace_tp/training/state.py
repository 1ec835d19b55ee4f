"""What a training carries from step to step."""

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree

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


def name_moments(state: TrainState) -> TrainState:
    """The same state with the optimizer's vectors as trees like the parameters: what is on disk has names, not an order."""
    flat, unravel = ravel_pytree(state.params)
    opt_state = jax.tree.map(lambda leaf: unravel(leaf) if leaf.shape == flat.shape else leaf, state.opt_state)
    return state.replace(opt_state=opt_state)


def flatten_moments(state: TrainState, like: TrainState) -> TrainState:
    """The inverse of `name_moments`, for a state with the structure of `like`."""
    opt_state = jax.tree.map(lambda leaf, named: ravel_pytree(named)[0].reshape(leaf.shape), like.opt_state, state.opt_state)
    return state.replace(opt_state=opt_state)
