"""The configuration: dataclasses that are its schema, and a check of their values.

Every default lives here; the YAML files state only what differs.
"""

import dataclasses
from typing import Any

import e3nn_jax as e3nn

from mace_tp.data.configuration import LabelKeys
from mace_tp.data.weights import MAX_WEIGHT, is_weight
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.ranges import at_least, check_ranges, choices_of, fraction, not_negative, one_of, positive
from mace_tp.tensor_products.compiled import KERNELS
from mace_tp.tensor_products.registry import TensorProductConfig, build_tensor_products


@dataclasses.dataclass
class DataConfig:
    """`data`: files, labels and batches."""

    train: Any = None  # a path or a list of paths
    valid: Any = None  # a path or a list; without it `valid_fraction` of the training set is taken
    valid_fraction: float = fraction(0.1)
    test: Any = None  # a path or a list
    isolated_atoms: str | None = None  # a file of isolated atoms, for E0
    atomic_energies: Any = "isolated"  # `isolated`, `least_squares`, `model` (of model.init_from), or {H: -13.6} in eV
    energy_key: str = "energy"
    forces_key: str = "forces"
    theory: str | None = None  # level of theory of the labels, for the model card; in a shell 'data.theory="wB97X/6-31G(d)"'
    stress_key: str = "stress"  # a key with `virial` in it names a virial in eV: the stress is -virial / volume
    config_type_weights: Any = None  # {config_type: weight in the loss}, such as {Default: 1, surface: 0.5}; Default: no type
    on_bad_frame: str = one_of("error", ("error", "skip"))  # `skip` logs frames that cannot be used and goes on without them
    batch_size: int = positive(5)
    valid_batch_size: int = positive(20)
    max_configurations: int | None = positive(None)  # read only this many from the beginning of every file


_ARCHITECTURE = Architecture()
_SELF_CONNECTIONS = ("nonresidual", "residual")


@dataclasses.dataclass
class ModelConfig:
    """`model`: the fields and defaults of `Architecture`, which says what they mean, and the origin of the weights.

    It cannot inherit from `Architecture`, which is frozen: Hydra fills in a schema field by field, and reads sequences as lists.
    """

    cutoff: float = positive(_ARCHITECTURE.cutoff)
    l_max: int = not_negative(_ARCHITECTURE.l_max)
    hidden_irreps: str = _ARCHITECTURE.hidden_irreps
    correlation: int = positive(_ARCHITECTURE.correlation)
    num_channels: int = positive(_ARCHITECTURE.num_channels)
    num_interactions: int = positive(_ARCHITECTURE.num_interactions)
    radial_mlp: list[int] = positive(list(_ARCHITECTURE.radial_mlp))
    num_bessel: int = positive(_ARCHITECTURE.num_bessel)
    cutoff_power: int = at_least(_ARCHITECTURE.cutoff_power, 2, "or forces jump at the cutoff")
    readout_mlp: int = positive(_ARCHITECTURE.readout_mlp)
    first_interaction: str = one_of(_ARCHITECTURE.first_interaction, _SELF_CONNECTIONS)
    other_interactions: str = one_of(_ARCHITECTURE.other_interactions, _SELF_CONNECTIONS)
    message_normalization: str = one_of(_ARCHITECTURE.message_normalization, ("average", "density"))
    distance_transform: str = one_of(_ARCHITECTURE.distance_transform, ("none", "agnesi", "soft"))
    pair_repulsion: str = one_of(_ARCHITECTURE.pair_repulsion, ("none", "zbl"))
    forces: str = one_of(_ARCHITECTURE.forces, ("gradient", "direct"))
    init_from: str | None = None  # a run directory or a folder `model` whose weights the training starts from


@dataclasses.dataclass
class StageTwoConfig:
    """`loss.stage_two`: weights of the loss for the last part of the training."""

    start: float = not_negative(0.6)  # fraction of the training after which stage two begins; 1 turns it off
    energy_weight: float = not_negative(1000.0)
    forces_weight: float = not_negative(100.0)
    stress_weight: float = not_negative(1000.0)


@dataclasses.dataclass
class LossConfig:
    """`loss`: weights of the mean squared errors of energy per atom (eV), forces (eV/Å) and stress (eV/Å³)."""

    energy_weight: float = not_negative(10.0)
    forces_weight: float = not_negative(100.0)
    stress_weight: float = not_negative(100.0)
    stage_two: StageTwoConfig = dataclasses.field(default_factory=StageTwoConfig)


@dataclasses.dataclass
class OptimizerConfig:
    """`optimizer`: AMSGrad and the learning rate's schedule."""

    learning_rate: float = positive(0.03)
    schedule: str = one_of("cosine", ("constant", "cosine", "plateau"))
    warmup: float = fraction(0.01)  # fraction of the training
    plateau_factor: float = positive(0.8)
    plateau_patience: int = not_negative(50)  # epochs
    final_factor: float = not_negative(0.0)  # final learning rate over `learning_rate`, of the cosine schedule
    amsgrad: bool = True
    beta1: float = fraction(0.9)
    beta2: float = fraction(0.999)
    weight_decay: float = not_negative(5e-7)
    max_grad_norm: float = positive(10.0)
    freeze: list[str] = dataclasses.field(default_factory=list)  # parts of names of parameters to keep fixed, such as layers.0
    ema_decay: float = fraction(0.99)


@dataclasses.dataclass
class TrainerConfig:
    """`trainer`: length of the training, checkpoints, resumption."""

    max_epochs: int = positive(100)
    max_minutes: float | None = positive(None)  # of updates and validation; reading of the data and compilation come on top
    patience: int | None = positive(None)  # epochs without a better validation loss that end the training, or its stage one
    checkpoint_minutes: float = not_negative(1.0)  # least time between checkpoints; the training always writes one at its end
    keep_every: int | None = positive(None)  # keep the checkpoint of every Nth epoch, besides the last two
    # `auto` continues the run in run_dir; `anyway` does so even with another configuration or other data.
    resume: str | None = one_of(None, (None, "auto", "anyway"))


@dataclasses.dataclass
class LoggerConfig:
    """`logger`: outputs besides the run directory."""

    wandb: str = one_of("disabled", ("disabled", "offline", "online"))
    wandb_project: str = "mace-tp"
    progress: bool = True  # show a progress bar and the time of compilations in a terminal


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
    seed: int = not_negative(0)
    dtype: str = one_of("float32", ("float32", "float64"))
    device: str = one_of("auto", ("auto", "cpu", "gpu"))
    kernel: str = one_of("auto", KERNELS)  # `auto` compiles code for sparse polynomials on a CPU; `xla` never does
    run_dir: str = "runs/${now:%Y-%m-%d}/${now:%H-%M-%S}"


def build_architecture(config: ModelConfig) -> Architecture:
    """The part of the `model` group that is saved with a model: all but `init_from`."""
    values = dataclasses.asdict(config)
    del values["init_from"]
    return Architecture(**values)


def build_label_keys(config: DataConfig) -> LabelKeys:
    return LabelKeys(energy=config.energy_key, forces=config.forces_key, stress=config.stress_key)


CHOICES = choices_of(Config)
"""Valid words of the keys that take one of a few, by full name."""


def check_config(config: Config) -> None:
    """Raise an InputError that names the first field which is out of range, and what would be valid."""
    check_ranges(config)
    _check_type_weights(config.data.config_type_weights)
    check_hidden_irreps(config.model.hidden_irreps, "model.hidden_irreps")
    if config.model.forces == "direct" and e3nn.Irrep(1, -1) not in e3nn.Irreps(config.model.hidden_irreps):
        raise InputError(f"model.hidden_irreps={config.model.hidden_irreps}: model.forces=direct reads forces from 1o, such as in 0e+1o")
    build_tensor_products(config.tensor_product)


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
    if not irreps or list(irreps)[0].ir != e3nn.Irrep(0, 1):
        raise InputError(f"{field}: must begin with 0e, from which energies are read")
