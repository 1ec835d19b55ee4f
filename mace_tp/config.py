"""The configuration: dataclasses that are its schema, and a check of their values.

Every default lives here; the YAML files state only what differs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import e3nn_jax as e3nn

from mace_tp.data.configuration import LabelKeys
from mace_tp.data.weights import MAX_WEIGHT, is_weight
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.tensor_products.compiled import KERNELS
from mace_tp.tensor_products.registry import TensorProductConfig, build_tensor_products


@dataclasses.dataclass
class DataConfig:
    """`data`: files, labels and batches."""

    train: Any = None  # a path or a list of paths
    valid: Any = None  # a path or a list; without it a share of the training set is taken
    valid_fraction: float = 0.1
    test: Any = None  # a path or a list
    isolated_atoms: str | None = None  # a file of isolated atoms, for E0
    atomic_energies: Any = "isolated"  # `isolated`, `least_squares`, `model` (of model.init_from), or {H: -13.6} in eV
    energy_key: str = "energy"
    forces_key: str = "forces"
    theory: str | None = None  # level of theory of the labels, for the model card; in a shell 'data.theory="wB97X/6-31G(d)"'
    stress_key: str = "stress"  # a key with `virial` in it names a virial in eV: the stress is -virial / volume
    config_type_weights: Any = None  # {config_type: weight in the loss}, such as {Default: 1, surface: 0.5}; Default: without a type
    on_bad_frame: str = "error"  # or `skip`: list frames that cannot be used, and go on without them
    batch_size: int = 5
    valid_batch_size: int = 20
    max_configurations: int | None = None  # only the first so many of every file


_ARCHITECTURE = Architecture()


@dataclasses.dataclass
class ModelConfig:
    """`model`: the fields and defaults of `Architecture`, which says what they mean, and the origin of the weights.

    It cannot inherit from `Architecture`, which is frozen: Hydra fills in a schema field by field, and reads sequences as lists.
    """

    cutoff: float = _ARCHITECTURE.cutoff
    l_max: int = _ARCHITECTURE.l_max
    hidden_irreps: str = _ARCHITECTURE.hidden_irreps
    correlation: int = _ARCHITECTURE.correlation
    num_channels: int = _ARCHITECTURE.num_channels
    num_interactions: int = _ARCHITECTURE.num_interactions
    radial_mlp: list[int] = dataclasses.field(default_factory=lambda: list(_ARCHITECTURE.radial_mlp))
    num_bessel: int = _ARCHITECTURE.num_bessel
    cutoff_power: int = _ARCHITECTURE.cutoff_power
    readout_mlp: int = _ARCHITECTURE.readout_mlp
    first_interaction: str = _ARCHITECTURE.first_interaction
    other_interactions: str = _ARCHITECTURE.other_interactions
    message_normalization: str = _ARCHITECTURE.message_normalization
    distance_transform: str = _ARCHITECTURE.distance_transform
    pair_repulsion: str = _ARCHITECTURE.pair_repulsion
    forces: str = _ARCHITECTURE.forces
    init_from: str | None = None  # a run directory or a folder `model`: begin with its weights, as far as it has them


@dataclasses.dataclass
class StageTwoConfig:
    """`loss.stage_two`: other weights for the last part of the training."""

    start: float = 0.6  # fraction of the training at which it begins; 1 turns it off
    energy_weight: float = 1000.0
    forces_weight: float = 100.0
    stress_weight: float = 1000.0


@dataclasses.dataclass
class LossConfig:
    """`loss`: weights of the mean squared errors of energy per atom (eV), forces (eV/Å) and stress (eV/Å³)."""

    energy_weight: float = 10.0
    forces_weight: float = 100.0
    stress_weight: float = 100.0
    stage_two: StageTwoConfig = dataclasses.field(default_factory=StageTwoConfig)


@dataclasses.dataclass
class OptimizerConfig:
    """`optimizer`: AMSGrad and the learning rate's schedule."""

    learning_rate: float = 0.03
    schedule: str = "cosine"  # `constant`, `cosine` or `plateau`
    warmup: float = 0.01  # fraction of the training
    plateau_factor: float = 0.8
    plateau_patience: int = 50  # epochs
    final_factor: float = 0.0  # of the cosine, at its end
    amsgrad: bool = True
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 5e-7
    max_grad_norm: float = 10.0
    freeze: list[str] = dataclasses.field(default_factory=list)  # parameters that stay: parts of their names, such as embedding or layers.0
    ema_decay: float = 0.99


@dataclasses.dataclass
class TrainerConfig:
    """`trainer`: how long, and what to keep."""

    max_epochs: int = 100
    max_minutes: float | None = None  # of updates and validation; reading of the data and compilation come on top
    patience: int | None = None  # so many epochs without a better validation loss end the training, in stage one that stage
    checkpoint_minutes: float = 1.0  # least time between checkpoints; one is always written at the end
    keep_every: int | None = None  # keep the checkpoint of every so many epochs, beside the last two
    resume: str | None = None  # `auto` continues the run in run_dir; `anyway` also with another configuration or other data


@dataclasses.dataclass
class LoggerConfig:
    """`logger`: what is written beside the run directory."""

    wandb: str = "disabled"  # `disabled`, `offline` or `online`
    wandb_project: str = "mace-tp"
    progress: bool = True  # progress bar, and elapsed time of compilations, in a terminal


@dataclasses.dataclass
class Config:
    """A whole training."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    tensor_product: TensorProductConfig = dataclasses.field(default_factory=TensorProductConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    logger: LoggerConfig = dataclasses.field(default_factory=LoggerConfig)
    seed: int = 0
    dtype: str = "float32"  # or `float64`
    device: str = "auto"  # `auto`, `cpu` or `gpu`
    kernel: str = "auto"  # on a CPU code that is compiled here for sparse polynomials, or `xla`: never
    run_dir: str = "runs/${now:%Y-%m-%d}/${now:%H-%M-%S}"


def build_architecture(config: ModelConfig) -> Architecture:
    """What is saved with a model: where its weights came from is not part of it."""
    values = dataclasses.asdict(config)
    del values["init_from"]
    return Architecture(**values)


def build_label_keys(config: DataConfig) -> LabelKeys:
    return LabelKeys(energy=config.energy_key, forces=config.forces_key, stress=config.stress_key)


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
