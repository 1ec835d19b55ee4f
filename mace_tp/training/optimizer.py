"""AMSGrad with the weight decay of ACEsuit's MACE, and learning rates as functions of progress."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from mace_tp.config import OptimizerConfig
from mace_tp.model.parameters import parameter_name


def make_optimizer(
    *, amsgrad: bool, beta1: float, beta2: float, weight_decay: float, max_grad_norm: float, frozen: frozenset[str] = frozenset()
) -> optax.GradientTransformation:
    """Gradient → direction of the update, for a learning rate of one.

    The decay is added to the gradient (L2, not decoupled) and only where MACE puts it: on the linear map after the
    interaction and on the product basis. Where names do not matter, all parameters are one vector, for which XLA
    makes a few kernels instead of some for every parameter.

    Args:
        amsgrad: divide by the largest second moment so far instead of the current one.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        weight_decay: coefficient of the L2 term.
        max_grad_norm: global norm to which larger gradients are scaled; infinity turns it off.
        frozen: names of parameters that stay as they are (`model.parameters.parameter_name`).
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
    """The optimizer without the gradients of frozen parameters, which would count in the norm, and without their updates.

    These may come from momentum of a time before. The structure of the state does not depend on what is frozen, so that a training can be
    continued with another choice.
    """

    def without(tree: optax.Updates) -> optax.Updates:
        return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.zeros_like(leaf) if parameter_name(path) in frozen else leaf, tree)

    def update(gradient: optax.Updates, state: optax.OptState, params: optax.Params | None = None) -> tuple[optax.Updates, optax.OptState]:
        updates, state = optimizer.update(without(gradient), state, params)
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

    optax by default takes the maximum after the bias correction, where the first, large gradients weigh as much as any
    later one and slow the whole training down.
    """
    raw = optax.scale_by_amsgrad(beta1, beta2, bias_correction_nu=False)

    def update(updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None) -> tuple[optax.Updates, optax.OptState]:
        updates, state = raw.update(updates, state, params)
        correction = jnp.sqrt(1 - beta2 ** state.count.astype(jnp.float32))
        return jax.tree.map(lambda u: u * correction.astype(u.dtype), updates), state

    return optax.GradientTransformation(raw.init, update)


@dataclasses.dataclass
class ConstantSchedule:
    """The same learning rate, after a linear warm-up."""

    warmup: float = 0.0  # fraction of the training

    def __call__(self, progress: float) -> float:
        return _warmup(progress, self.warmup)

    def observe(self, valid_loss: float) -> None:
        """Nothing to learn from the validation loss."""

    def restart(self) -> None:
        """Nothing to forget when the loss changes."""


@dataclasses.dataclass
class CosineSchedule:
    """Half a cosine from one to `final`, after a linear warm-up."""

    warmup: float = 0.0  # fraction of the training
    final: float = 0.0  # factor at the end

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return _warmup(progress, self.warmup)
        phase = (progress - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(phase, 1.0)))

    def observe(self, valid_loss: float) -> None:
        """Nothing to learn from the validation loss."""

    def restart(self) -> None:
        """Nothing to forget when the loss changes."""


@dataclasses.dataclass
class PlateauSchedule:
    """Multiplied by `factor` whenever the validation loss has not improved for `patience` epochs (ACEsuit: 0.8 and 50)."""

    warmup: float = 0.0
    factor: float = 0.8
    patience: int = 50
    scale: float = 1.0  # current factor
    best: float = math.inf
    num_bad: int = 0

    def __call__(self, progress: float) -> float:
        return self.scale * _warmup(progress, self.warmup)

    def observe(self, valid_loss: float) -> None:
        """Learn the validation loss of an epoch. An improvement is one of more than 1e-4 relative, torch's default."""
        if valid_loss < self.best * (1 - 1e-4):
            self.best, self.num_bad = valid_loss, 0
            return
        self.num_bad += 1
        if self.num_bad > self.patience:
            self.scale, self.num_bad = self.scale * self.factor, 0

    def restart(self) -> None:
        """Forget the best loss, because losses of another stage cannot be compared with it."""
        self.best, self.num_bad = math.inf, 0


Schedule = ConstantSchedule | CosineSchedule | PlateauSchedule
"""(progress in [0, 1]) → factor on the learning rate."""


def with_memory(schedule: Schedule, saved: Mapping[str, float]) -> Schedule:
    """The schedule as it is configured, with what a schedule of its kind had learnt when its fields were saved."""
    learnt = {"scale", "best", "num_bad"} & saved.keys() & {field.name for field in dataclasses.fields(schedule)}
    return dataclasses.replace(schedule, **{name: saved[name] for name in learnt})


def _warmup(progress: float, warmup: float) -> float:
    return min(1.0, progress / warmup) if warmup > 0 else 1.0


def build_schedule(config: OptimizerConfig) -> Schedule:
    """Learning-rate factor by progress. `check_config` has seen that the name is one of these."""
    if config.schedule == "constant":
        return ConstantSchedule(config.warmup)
    if config.schedule == "cosine":
        return CosineSchedule(config.warmup, config.final_factor)
    return PlateauSchedule(config.warmup, config.plateau_factor, config.plateau_patience)
