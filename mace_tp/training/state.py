"""The arrays that a training carries from step to step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mace_tp.model.parameters import Params, parameter_name


@struct.dataclass
class TrainState:
    """Parameters, their average, and the optimizer's moments."""

    step: jax.Array  # number of updates made, int32
    params: Params
    ema_params: Params  # exponential moving average, which is evaluated and saved
    opt_state: optax.OptState


def initial_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update, made by one compiled program instead of one for every shape of a parameter."""

    def initialize(params: Params) -> TrainState:
        # The average starts as a copy, because the training step donates its input and a buffer can be donated only once.
        ema_params = jax.tree.map(jnp.copy, params)
        return TrainState(step=jnp.zeros((), jnp.int32), params=params, ema_params=ema_params, opt_state=optimizer.init(params))

    return jax.jit(initialize)(params)


@jax.jit
def copied(params: Params) -> Params:
    """A copy of the parameters, made by one compiled program."""
    return jax.tree.map(jnp.copy, params)


def hold_frozen(state: TrainState, frozen: frozenset[str]) -> TrainState:
    """The state, on the host, with frozen parameters set to their averages, which were evaluated and saved."""
    params = jax.tree_util.tree_map_with_path(
        lambda path, now, average: np.copy(average) if parameter_name(path) in frozen else now, state.params, state.ema_params
    )
    return dataclasses.replace(state, params=params)


def name_moments(state: TrainState) -> TrainState:
    """The same state with the optimizer's vectors of all parameters split into trees of parameters, copied to the host.

    Files need names, because the order of the parameters may change between versions. Every vector of this length must be one of
    `optax.flatten`.
    """
    leaves, structure = jax.tree.flatten(state.params)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def named(leaf: jax.Array) -> jax.Array | Params:
        if leaf.shape != (ends[-1],):
            return leaf
        parts = np.split(np.array(leaf), ends[:-1])
        return structure.unflatten([part.reshape(parameter.shape) for part, parameter in zip(parts, leaves, strict=True)])

    return dataclasses.replace(state, opt_state=jax.tree.map(named, state.opt_state))


def flatten_moments(state: TrainState, like: TrainState) -> TrainState:
    """The inverse of `name_moments`, for a state with the structure of `like`."""

    def flat(leaf: jax.Array, named: jax.Array | Params) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in jax.tree.leaves(named)]).reshape(leaf.shape)

    return dataclasses.replace(state, opt_state=jax.tree.map(flat, like.opt_state, state.opt_state))
