"""Configuration → everything that stays the same throughout a training: data, loaders, model, optimizer, compiled steps."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mace_tp.benchmark.autotune import autotune
from mace_tp.config import Config, OptimizerConfig, build_architecture, check_config
from mace_tp.data.batching import BatchLoader, are_weighted, choose_buckets
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.report import describe_batches, describe_parts
from mace_tp.data.suspicions import suspicions
from mace_tp.errors import InputError
from mace_tp.evaluation.batches import make_eval_step
from mace_tp.model.parameters import named_parameters
from mace_tp.model.potential import Potential
from mace_tp.model.programs import CompiledStep, make_predict
from mace_tp.model.saved_model import create_model
from mace_tp.run_directory import CHECKPOINTS
from mace_tp.runtime.cache import cache_directory
from mace_tp.runtime.devices import find_device, set_dtype
from mace_tp.runtime.environment import describe
from mace_tp.runtime.forked import refuse_fork
from mace_tp.tensor_products.compiled import describe_kernel, kernel_beside
from mace_tp.tensor_products.notation import site_text
from mace_tp.tensor_products.registry import TensorProductConfig
from mace_tp.training.checkpoint import read_provenance
from mace_tp.training.datasets import Datasets, load_datasets
from mace_tp.training.fine_tuning import LEARNING_RATE, starting_statistics, statistics_of_start
from mace_tp.training.optimizer import make_optimizer
from mace_tp.training.provenance import as_begun, provenance_of
from mace_tp.training.schedule import build_stages
from mace_tp.training.state import TrainState
from mace_tp.training.step import make_control, make_train_step

_LOG = logging.getLogger("mace_tp")


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything that stays the same throughout a training."""

    config: Config
    provenance: dict[str, Any]  # configuration, data, statistics and versions, as checkpoints keep them
    provenance_before: dict[str, Any] | None  # the same of the checkpoint to resume from; None for a new training
    datasets: Datasets
    train_loader: BatchLoader
    eval_loaders: dict[str, BatchLoader]  # `valid`, and every test file by its path
    model: Potential  # with the parameters of the start
    frozen: frozenset[str]  # names of parameters that are not trained
    optimizer: optax.GradientTransformation
    train_step: CompiledStep
    eval_step: CompiledStep


@contextlib.contextmanager
def computing(config: Config) -> Iterator[dict[str, Any]]:
    """Set dtype and device, begin to compile the kernel in the background, and log the environment, which this yields.

    Raises:
        InputError: a field of the configuration is out of range, or there is no such device.
    """
    refuse_fork()
    check_config(config)
    set_dtype(config.dtype)
    device = find_device(config.device)
    environment = describe(device, config.dtype)
    _LOG.info(" · ".join(f"{name} {value}" for name, value in environment.items()))
    with jax.default_device(device), kernel_beside(config.kernel, config.dtype):
        yield environment


def prepare(config: Config, environment: dict[str, Any], run_dir: Path | None = None) -> Setup:
    """Read the data, make the model, and log what both are.

    Args:
        config: the whole configuration.
        environment: versions and hardware (`computing`).
        run_dir: of a run that may be resumed (`trainer.resume`), whose model keeps its statistics; None for steps without a run.

    Raises:
        InputError: a file, a label or a key cannot be used.
    """
    before = None if run_dir is None or config.trainer.resume is None else read_provenance(run_dir / CHECKPOINTS)
    config, dtype = as_begun(config, before), jnp.dtype(config.dtype)
    kept = None if before is None else DatasetStatistics.from_dict(before["statistics"])
    start = statistics_of_start(config.model.init_from, kept)
    datasets = load_datasets(config, start, kept)
    train_loader = _train_loader(config, datasets, dtype)
    _report_data(config, datasets, train_loader)
    _require_no_stress(config, datasets)
    tensor_product = _tuned(config, train_loader, dtype)
    statistics = kept or starting_statistics(config.model.init_from, datasets.statistics, start)
    model = create_model(build_architecture(config.model), tensor_product, statistics, dtype, config.seed, config.kernel)
    _report_model(model, config.kernel, dtype)
    predict_batch = make_predict(model.graphdef)
    frozen = _frozen(config.optimizer.freeze, model)
    if before is None:
        _warn_of_start(config)
    optimizer = make_optimizer(
        amsgrad=config.optimizer.amsgrad,
        beta1=config.optimizer.beta1,
        beta2=config.optimizer.beta2,
        weight_decay=config.optimizer.weight_decay,
        max_grad_norm=config.optimizer.max_grad_norm,
        frozen=frozen,
    )
    return Setup(
        config=config,
        provenance=provenance_of(config, datasets, model.statistics, environment),
        provenance_before=before,
        datasets=datasets,
        train_loader=train_loader,
        eval_loaders=_eval_loaders(config, datasets, dtype),
        model=model,
        frozen=frozen,
        optimizer=optimizer,
        train_step=make_train_step(predict_batch, optimizer),
        eval_step=make_eval_step(predict_batch),
    )


def compile_step(setup: Setup, state: TrainState, epoch: int) -> None:
    """Compile the training step for the first batch of an epoch, counted from 0; nothing is run."""
    config = setup.config
    rate, weights = config.optimizer.learning_rate, build_stages(config.loss)[0].weights
    control = make_control(rate, weights, config.optimizer.ema_decay, jnp.dtype(config.dtype))
    setup.train_step.compile(state, next(setup.train_loader.epoch(epoch)), control)


def _warn_of_start(config: Config) -> None:
    """Warn of a learning rate that spoils the weights of another model, and of random weights that are frozen."""
    rate, path = config.optimizer.learning_rate, config.model.init_from
    if path is not None and rate >= OptimizerConfig().learning_rate:
        _LOG.warning("optimizer.learning_rate=%g suits random weights and may spoil those of %s; try %g", rate, path, LEARNING_RATE)
    if path is None and config.optimizer.freeze:
        _LOG.warning("optimizer.freeze: without model.init_from random weights are frozen")


def _frozen(groups: Sequence[str], model: Potential) -> frozenset[str]:
    """Names of the parameters of some groups. A group is a part of their names, such as `embedding`, `product_basis` or `layers.0`.

    Raises:
        InputError: a group has no parameters.
    """
    names = named_parameters(model.params)
    frozen: set[str] = set()
    for group in groups:
        members = {name for name in names if f".{group}." in f".{name}."}
        if not members:
            parts = sorted({part for name in names for part in name.split(".") if not part.isdigit()})
            raise InputError(f"optimizer.freeze={group}: no parameter has it in its name; valid are {', '.join(parts)}, layers.0")
        frozen |= members
    if len(frozen) == len(names):
        raise InputError(f"optimizer.freeze={','.join(groups)}: leaves nothing to train")
    if frozen:
        _LOG.info("frozen: %d of %d parameters", sum(names[name].size for name in frozen), model.num_parameters)
    return frozenset(frozen)


def _tuned(config: Config, loader: BatchLoader, dtype: jnp.dtype) -> TensorProductConfig:
    architecture, cache = build_architecture(config.model), cache_directory() / "autotune.json"
    return autotune(config.tensor_product, architecture, next(loader.epoch(0)), dtype, cache, config.kernel)


def _require_no_stress(config: Config, datasets: Datasets) -> None:
    """Require that no stress is fitted with direct forces, which give none.

    Raises:
        InputError: the loss gives weight to the stress of the data.
    """
    stages = [config.loss] if config.loss.stage_two.start >= 1 else [config.loss, config.loss.stage_two]
    labelled = next((graph.source for graph in datasets.train if graph.stress is not None), None)
    if config.model.forces == "direct" and labelled is not None and max(stage.stress_weight for stage in stages) > 0:
        raise InputError(
            f"model.forces=direct: gives no stress, and {labelled} has one to fit; set loss.stress_weight=0 and "
            "loss.stage_two.stress_weight=0, or model.forces=gradient"
        )


def _train_loader(config: Config, datasets: Datasets, dtype: jnp.dtype) -> BatchLoader:
    buckets = choose_buckets(datasets.train, config.data.batch_size, seed=config.seed)
    weighted = are_weighted(datasets.train)
    return BatchLoader(datasets.train, config.data.batch_size, buckets, dtype, seed=config.seed, weighted=weighted)


def _eval_loaders(config: Config, datasets: Datasets, dtype: jnp.dtype) -> dict[str, BatchLoader]:
    """Loaders of the validation and test sets, with one set of shapes: a compilation takes longer than padding.

    Therefore either all batches have label weights or none.
    """
    evaluated = {"valid": datasets.valid, **datasets.test}
    batch_size = config.data.valid_batch_size
    buckets = choose_buckets([graph for graphs in evaluated.values() for graph in graphs], batch_size, shuffle=False)
    weighted = any(are_weighted(graphs) for graphs in evaluated.values())
    return {name: BatchLoader(graphs, batch_size, buckets, dtype, shuffle=False, weighted=weighted) for name, graphs in evaluated.items()}


def _report_data(config: Config, datasets: Datasets, loader: BatchLoader) -> None:
    statistics = datasets.statistics
    parts = {"train": datasets.train, "valid": datasets.valid} | {f"test {name}": graphs for name, graphs in datasets.test.items()}
    lines = [datasets.origin_of_energies, *describe_parts(parts, statistics.atomic_numbers)]
    for line in lines + describe_batches(datasets.train, statistics, loader.buckets, config.data.batch_size, config.seed):
        _LOG.info(line)
    fitted = config.data.atomic_energies == "least_squares"
    for line in suspicions(parts, statistics.atomic_numbers, statistics.atomic_energies, energies_are_fitted=fitted):
        _LOG.warning(line)


def _report_model(model: Potential, kernel: str, dtype: jnp.dtype) -> None:
    shape = model.architecture
    size = f"{model.num_parameters} parameters, {shape.num_channels} x ({shape.hidden_irreps}), {shape.num_interactions} layers"
    reach = f"l_max {shape.l_max}, correlation {shape.correlation}, cutoff {shape.cutoff:g} Å"
    _LOG.info("model: MACE, %s, %s, %s forces", size, reach, shape.forces)
    interaction, product_basis = site_text(model.tensor_product.interaction), site_text(model.tensor_product.product_basis)
    _LOG.info("tensor product: %s in the interaction, %s in the product basis", interaction, product_basis)
    _LOG.info("kernel: %s", describe_kernel(kernel, jnp.dtype(dtype).name))
