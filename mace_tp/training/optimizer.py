"""AMSGrad with the weight decay of ACEsuit's MACE."""

from typing import cast

import jax
import jax.numpy as jnp
import optax

from mace_tp.model.parameters import parameter_name


def make_optimizer(
    *, amsgrad: bool, beta1: float, beta2: float, weight_decay: float, max_grad_norm: float, frozen: frozenset[str] = frozenset()
) -> optax.GradientTransformation:
    """The optimizer: maps a gradient to the direction of the update, for a learning rate of one.

    The decay is added to the gradient (L2, not decoupled), and only for the parameters that MACE decays: the linear map after the
    interaction and the product basis. The other transformations see all parameters as one vector, for which XLA makes a few kernels
    instead of some for every parameter.

    Args:
        amsgrad: divide by the largest second moment so far instead of the current one.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        weight_decay: coefficient of the L2 term.
        max_grad_norm: global norm to which larger gradients are scaled; infinity turns it off.
        frozen: names of parameters that are not trained (`model.parameters.parameter_name`).
    """
    adam = _scale_by_torch_amsgrad(beta1, beta2) if amsgrad else optax.scale_by_adam(beta1, beta2)
    chain = optax.chain(
        optax.flatten(optax.clip_by_global_norm(max_grad_norm)),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.flatten(adam),
        optax.scale(-1.0),
    )
    return _holding(chain, frozen)


def _holding(optimizer: optax.GradientTransformation, frozen: frozenset[str]) -> optax.GradientTransformation:
    """The optimizer without gradients and updates of frozen parameters.

    Their gradients would count in the norm; their updates may come from momentum of an earlier session, in which they were trained. The
    structure of the state does not depend on the frozen parameters, so a training can be resumed with another choice.
    """

    def without(tree: optax.Updates) -> optax.Updates:
        return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.zeros_like(leaf) if parameter_name(path) in frozen else leaf, tree)

    def update(updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None) -> tuple[optax.Updates, optax.OptState]:
        updates, state = optimizer.update(without(updates), state, params)
        return without(updates), state

    return optax.GradientTransformation(optimizer.init, update)


def decay_mask(params: optax.Params) -> optax.Params:
    """True for the parameters that are decayed."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _is_decayed(parameter_name(path)), params)


def _is_decayed(name: str) -> bool:
    parts = name.split(".")
    return "product_basis" in parts or ("interaction" in parts and "linear" in parts)


def _scale_by_torch_amsgrad(beta1: float, beta2: float) -> optax.GradientTransformation:
    """AMSGrad that keeps the largest *uncorrected* second moment, as torch does.

    By default optax takes the maximum after the bias correction. Then the first, large gradients weigh as much as any later one and slow
    down the whole training.
    """
    raw = optax.scale_by_amsgrad(beta1, beta2, bias_correction_nu=False)

    def update(updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None) -> tuple[optax.Updates, optax.OptState]:
        updates, state = raw.update(updates, state, params)
        count = cast(optax.ScaleByAmsgradState, state).count
        correction = jnp.sqrt(1 - beta2 ** jnp.asarray(count, jnp.float32))
        return jax.tree.map(lambda u: u * correction.astype(u.dtype), updates), state

    return optax.GradientTransformation(raw.init, update)
