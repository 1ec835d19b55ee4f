"""The configuration: dataclasses that are its schema, and functions that build objects from it.

Every default lives here; the YAML files state only what differs.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mace_tp import tensor_products
from mace_tp.data.configuration import LabelKeys
from mace_tp.errors import InputError
from mace_tp.model.mace import Architecture, TensorProducts
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.notation import Pair, meant, split_product
from mace_tp.training.loop import Stage
from mace_tp.training.loss import LossWeights
from mace_tp.training.optimizer import ConstantSchedule, CosineSchedule, PlateauSchedule, Schedule


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


@dataclasses.dataclass
class ModelConfig(Architecture):
    """`model`: the architecture, and where its weights come from."""

    init_from: str | None = None  # a run directory or a folder `model`: begin with its weights, as far as it has them


@dataclasses.dataclass
class TensorProductConfig:
    """`tensor_product`: one for each site; a name, NAME:option=value,option=value, or {name, **options}."""

    interaction: Any = "cg"
    product_basis: Any = "cg"


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


def build_tensor_products(config: TensorProductConfig) -> TensorProducts:
    return TensorProducts(
        interaction=_build_tensor_product(config.interaction, "tensor_product.interaction"),
        product_basis=_build_tensor_product(config.product_basis, "tensor_product.product_basis"),
    )


def parse_products(text: str) -> TensorProductConfig:
    """The sites of NAME or INTERACTION/PRODUCT_BASIS, each with :option=value,option=value.

    Raises:
        InputError: no such product or option, or a value that it does not take.
    """
    interaction, slash, product_basis = text.partition("/")
    sites = TensorProductConfig(*(split_product(site, text) for site in (interaction, product_basis if slash else interaction)))
    for site in (sites.interaction, sites.product_basis):
        _build_tensor_product(site, "tensor_product")
    return sites


def parse_product(text: str) -> TensorProduct:
    """The tensor product of NAME or INTERACTION/PRODUCT_BASIS, each with :option=value,option=value.

    Raises:
        InputError: no such product or option, or a value that it does not take.
    """
    sites = build_tensor_products(parse_products(text))
    return sites.interaction if sites.interaction == sites.product_basis else Pair(sites.interaction, sites.product_basis)


def tensor_product_names() -> list[str]:
    """Names that `tensor_product` takes: the modules that define one."""
    modules = [module.name for module in pkgutil.iter_modules(tensor_products.__path__)]
    return sorted(name for name in modules if _find_class(name) is not None)


def _build_tensor_product(site: Any, field: str) -> TensorProduct:
    options = split_product(site, f"{field}={site}") if isinstance(site, str) else site
    if not isinstance(options, Mapping) or "name" not in options:
        raise InputError(f"{field}={site}: must be the name of a tensor product, or {{name: NAME, option: value}}")
    options = dict(options)
    name = options.pop("name")
    is_module = name in (module.name for module in pkgutil.iter_modules(tensor_products.__path__))
    cls = _find_class(name) if is_module else None
    if cls is None:
        names = tensor_product_names()
        raise InputError(f"{field}={name}: no such tensor product; {meant(str(name), names)}valid: {', '.join(names)}")
    valid = [option.name for option in dataclasses.fields(cls)]
    unknown = sorted(set(map(str, options)) - set(valid))
    if unknown:
        message = f"{field}.{unknown[0]}: {name} has no such option; {meant(unknown[0], valid)}valid: {', '.join(valid) or 'none'}"
        raise InputError(message)
    try:
        return cls(**options)
    except InputError as error:
        raise InputError(f"{field}: {str(error).removeprefix('tensor_product: ')}") from error


def _find_class(name: str) -> type[TensorProduct] | None:
    module = importlib.import_module(f"{tensor_products.__name__}.{name}")
    defined = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
    return next((value for value in defined if issubclass(value, TensorProduct) and not inspect.isabstract(value)), None)


def build_label_keys(config: DataConfig) -> LabelKeys:
    return LabelKeys(energy=config.energy_key, forces=config.forces_key, stress=config.stress_key)


def build_loss_weights(config: LossConfig | StageTwoConfig) -> LossWeights:
    return LossWeights(energy=config.energy_weight, forces=config.forces_weight, stress=config.stress_weight)


def build_stages(config: LossConfig) -> tuple[Stage, ...]:
    """The parts of the training with loss weights of their own."""
    first, second = Stage(0.0, build_loss_weights(config)), Stage(config.stage_two.start, build_loss_weights(config.stage_two))
    return (first, second) if second.start < 1 else (first,)


def build_schedule(config: OptimizerConfig) -> Schedule:
    """Learning-rate factor by progress. `check_config` has seen that the name is one of these."""
    if config.schedule == "constant":
        return ConstantSchedule(config.warmup)
    if config.schedule == "cosine":
        return CosineSchedule(config.warmup, config.final_factor)
    return PlateauSchedule(config.warmup, config.plateau_factor, config.plateau_patience)


def build_dtype(config: Config) -> jnp.dtype:
    """The dtype of parameters and data. float64 is switched on in jax, which must not have computed anything yet.

    Matrix products keep the precision of the dtype: by default jax lets a GPU round float32 to 10 bits (TF32).
    """
    jax.config.update("jax_default_matmul_precision", "highest")
    if config.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    return jnp.dtype(config.dtype)


def build_device(config: Config) -> jax.Device:
    """The first device of the kind that was asked for."""
    if config.device == "auto":
        return jax.devices()[0]
    try:
        return jax.devices(config.device)[0]
    except RuntimeError as error:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise InputError(f"device={config.device}: jax finds none; it finds {found}") from error
