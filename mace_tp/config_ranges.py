"""Values of the configuration that have the right type and cannot be used."""

import dataclasses
from collections.abc import Callable
from typing import Any

import e3nn_jax as e3nn

from mace_tp.config import Config, build_tensor_products
from mace_tp.data.weights import MAX_WEIGHT, is_weight
from mace_tp.errors import InputError
from mace_tp.tensor_products.compiled import KERNELS

_POSITIVE = (
    "data.batch_size", "data.valid_batch_size", "data.max_configurations", "model.cutoff", "model.num_channels", "model.correlation",
    "model.num_interactions", "model.radial_mlp", "model.num_bessel", "model.readout_mlp", "optimizer.learning_rate",
    "optimizer.max_grad_norm", "optimizer.plateau_factor", "trainer.max_epochs", "trainer.max_minutes", "trainer.patience",
    "trainer.keep_every",
)  # fmt: skip
_NOT_NEGATIVE = (
    "model.l_max", "loss.energy_weight", "loss.forces_weight", "loss.stress_weight", "loss.stage_two.start", "loss.stage_two.energy_weight",
    "loss.stage_two.forces_weight", "loss.stage_two.stress_weight", "optimizer.weight_decay", "optimizer.plateau_patience",
    "optimizer.final_factor", "trainer.checkpoint_minutes", "seed",
)  # fmt: skip
_FRACTIONS = ("data.valid_fraction", "optimizer.warmup", "optimizer.beta1", "optimizer.beta2", "optimizer.ema_decay")
CHOICES: dict[str, tuple[str | None, ...]] = {
    "data.on_bad_frame": ("error", "skip"),
    "model.first_interaction": ("nonresidual", "residual"),
    "model.other_interactions": ("nonresidual", "residual"),
    "model.message_normalization": ("average", "density"),
    "model.distance_transform": ("none", "agnesi", "soft"),
    "model.pair_repulsion": ("none", "zbl"),
    "model.forces": ("gradient", "direct"),
    "optimizer.schedule": ("constant", "cosine", "plateau"),
    "logger.wandb": ("disabled", "offline", "online"),
    "dtype": ("float32", "float64"),
    "device": ("auto", "cpu", "gpu"),
    "kernel": KERNELS,
    "trainer.resume": (None, "auto", "anyway"),
}


def check_config(config: Config) -> None:
    """Raise an InputError that names the first field which is out of range, and what would be valid."""
    values = _flat(dataclasses.asdict(config))
    _require(values, _POSITIVE, lambda value: value > 0, "must be positive")
    _require(values, _NOT_NEGATIVE, lambda value: value >= 0, "must not be negative")
    _require(values, _FRACTIONS, lambda value: 0 <= value < 1, "must be in [0, 1)")
    _require(values, ("model.cutoff_power",), lambda value: value >= 2, "must be at least 2, or forces jump at the cutoff")
    for field, valid in CHOICES.items():
        names = ", ".join("null" if name is None else name for name in valid)
        if values[field] not in valid:
            raise InputError(f"{field}={values[field]}: must be one of {names}")
    _check_type_weights(config.data.config_type_weights)
    check_hidden_irreps(config.model.hidden_irreps, "model.hidden_irreps")
    if config.model.forces == "direct" and e3nn.Irrep("1o") not in e3nn.Irreps(config.model.hidden_irreps):
        raise InputError(f"model.hidden_irreps={config.model.hidden_irreps}: model.forces=direct reads forces from 1o, such as in 0e+1o")
    build_tensor_products(config.tensor_product)


def _require(values: dict[str, Any], fields: tuple[str, ...], is_valid: Callable[[float], bool], text: str) -> None:
    """Check numbers and lists of numbers; None, which means absent, is always valid."""
    for field in fields:
        numbers = values[field] if isinstance(values[field], list) else [values[field]]
        if not all(number is None or is_valid(number) for number in numbers):
            raise InputError(f"{field}={values[field]}: {text}")


def _check_type_weights(weights: Any) -> None:
    field = f"data.config_type_weights={weights}"
    if weights is None:
        return
    if not isinstance(weights, dict):
        raise InputError(f"{field}: must be a mapping of config_type to weight, such as {{Default: 1, surface: 0.5}}")
    for name, weight in weights.items():
        if not is_weight(weight):
            raise InputError(f"{field}: the weight of {name} must be a number from 0 to {MAX_WEIGHT:g}")


def check_hidden_irreps(hidden_irreps: str, name: str) -> None:
    """Raise an InputError that begins with the name unless these are irreps of a model's hidden features."""
    field = f"{name}={hidden_irreps}"
    try:
        irreps = e3nn.Irreps(hidden_irreps)
    except ValueError as error:
        raise InputError(f"{field}: not irreps; valid is, for example, 0e+1o") from error
    if any(irrep.mul != 1 for irrep in irreps) or len({irrep.ir for irrep in irreps}) != len(irreps):
        raise InputError(f"{field}: each irrep once and without multiplicity, which model.num_channels gives; valid is, for example, 0e+1o")
    if not irreps or irreps[0].ir != e3nn.Irrep("0e"):
        raise InputError(f"{field}: must begin with 0e, from which energies are read")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by their full names, such as `loss.stage_two.start`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
