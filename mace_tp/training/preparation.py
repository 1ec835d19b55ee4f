"""Configuration → everything that a training works with: data, loaders, model, compiled steps."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from mace_tp.benchmark.autotune import autotune
from mace_tp.config import Config, OptimizerConfig, build_architecture
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
from mace_tp.runtime.cache import cache_directory
from mace_tp.tensor_products.compiled import describe_kernel
from mace_tp.tensor_products.notation import site_text
from mace_tp.tensor_products.registry import TensorProductConfig
from mace_tp.training.datasets import Datasets, load_datasets
from mace_tp.training.fine_tuning import LEARNING_RATE, starting_statistics, statistics_of_start
from mace_tp.training.optimizer import make_optimizer
from mace_tp.training.step import make_train_step

_LOG = logging.getLogger("mace_tp")


@dataclasses.dataclass(frozen=True)
class Setup:
    """What stays the same throughout a training."""

    datasets: Datasets
    train_loader: BatchLoader
    eval_loaders: dict[str, BatchLoader]  # `valid`, and every test file by its path
    model: Potential  # with the parameters of the start
    frozen: frozenset[str]  # names of those that stay as they are
    optimizer: optax.GradientTransformation
    train_step: CompiledStep
    eval_step: CompiledStep


def prepare(config: Config, dtype: jnp.dtype, before: Mapping[str, Any] | None = None) -> Setup:
    """Read the data, make the model, and say what both are.

    Args:
        config: the whole configuration.
        dtype: of parameters and data.
        before: the origin of the run that is continued, whose model keeps its statistics; None for a new one.

    Raises:
        InputError: a file, a label or a key cannot be used.
    """
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
        datasets=datasets,
        train_loader=train_loader,
        eval_loaders=_eval_loaders(config, datasets, dtype),
        model=model,
        frozen=frozen,
        optimizer=optimizer,
        train_step=make_train_step(predict_batch, optimizer),
        eval_step=make_eval_step(predict_batch),
    )


def _warn_of_start(config: Config) -> None:
    """What is seldom wanted where weights are taken from another model, or frozen."""
    rate, path = config.optimizer.learning_rate, config.model.init_from
    if path is not None and rate >= OptimizerConfig().learning_rate:
        _LOG.warning("optimizer.learning_rate=%g is for random weights and may spoil those of %s; try %g", rate, path, LEARNING_RATE)
    if path is None and config.optimizer.freeze:
        _LOG.warning("optimizer.freeze: without model.init_from random weights are frozen")


def _frozen(groups: Sequence[str], model: Potential) -> frozenset[str]:
    """Names of the parameters of groups, each a part of the names such as `embedding`, `product_basis` or `layers.0`.

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
    """Direct forces give no stress; labels of it that count nothing are no harm.

    Raises:
        InputError: they would count.
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
    """One set of shapes for all that is only evaluated: a compilation takes longer than the padding. So all or none have weights."""
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
