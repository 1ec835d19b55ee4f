"""What a training carries from step to step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mace_tp.model.parameters import Params, parameter_name


@struct.dataclass
class TrainState:
    """A pytree; with the configuration and the dataset statistics it is all that a checkpoint needs."""

    step: jax.Array  # number of updates made, int32
    params: Params
    ema_params: Params  # exponential moving average; what is evaluated and saved
    opt_state: optax.OptState


def initial_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update, by one program instead of one for every shape of a parameter."""

    def initialize(params: Params) -> TrainState:
        # The average starts as a copy: the training step donates its input, and one buffer cannot be given away twice.
        ema_params = jax.tree.map(jnp.copy, params)
        return TrainState(step=jnp.zeros((), jnp.int32), params=params, ema_params=ema_params, opt_state=optimizer.init(params))

    return jax.jit(initialize)(params)


@jax.jit
def copied(params: Params) -> Params:
    """Parameters in memory of their own, by one program."""
    return jax.tree.map(jnp.copy, params)


def hold_frozen(state: TrainState, frozen: frozenset[str]) -> TrainState:
    """The state, on the host, with frozen parameters at their averages: those were evaluated and saved, and shall stay."""
    params = jax.tree_util.tree_map_with_path(
        lambda path, now, average: np.copy(average) if parameter_name(path) in frozen else now, state.params, state.ema_params
    )
    return state.replace(params=params)


def name_moments(state: TrainState) -> TrainState:
    """The same state with the optimizer's vectors of all parameters as trees of them, copied to the host.

    For the disk, where a name outlives the order of the parameters. Vectors of this length must be those of `optax.flatten`.
    """
    leaves, structure = jax.tree.flatten(state.params)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def named(leaf: jax.Array) -> jax.Array | Params:
        if leaf.shape != (ends[-1],):
            return leaf
        parts = np.split(np.array(leaf), ends[:-1])
        return structure.unflatten([part.reshape(parameter.shape) for part, parameter in zip(parts, leaves, strict=True)])

    return state.replace(opt_state=jax.tree.map(named, state.opt_state))


def flatten_moments(state: TrainState, like: TrainState) -> TrainState:
    """The inverse of `name_moments`, for a state with the structure of `like`."""

    def flat(leaf: jax.Array, named: jax.Array | Params) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in jax.tree.leaves(named)]).reshape(leaf.shape)

    return state.replace(opt_state=jax.tree.map(flat, like.opt_state, state.opt_state))
