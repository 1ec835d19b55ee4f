"""A training step of the whole model, ready to be timed; for the other benchmarks of this folder."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mace_tp.config import Config, DataConfig
from mace_tp.data.batching import BatchLoader, choose_buckets
from mace_tp.graph import GraphBatch
from mace_tp.model.architecture import Architecture
from mace_tp.model.programs import CompiledStep, make_predict
from mace_tp.model.saved_model import create_model
from mace_tp.tensor_products.registry import parse_products
from mace_tp.training.datasets import load_datasets
from mace_tp.training.loss import build_loss_weights
from mace_tp.training.optimizer import make_optimizer
from mace_tp.training.state import initial_state
from mace_tp.training.step import Control, make_train_step


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One update, float32."""

    run: Callable[[], Any]  # and wait for its end
    program: CompiledStep
    batch: GraphBatch


def build_step(data: str, tensor_products: str, architecture: Architecture, batch_size: int, kernel: str) -> Step:
    """The default recipe's step on a batch of the first 50 configurations of a file.

    Args:
        data: a file of configurations with energies and forces.
        tensor_products: NAME or INTERACTION/PRODUCT_BASIS, each with :option=value.
        architecture: of the model.
        batch_size: configurations.
        kernel: as `kernel` of the command.
    """
    config = Config(data=DataConfig(train=data, atomic_energies="least_squares", max_configurations=50), model=architecture)
    datasets, dtype = load_datasets(config), np.dtype(np.float32)
    model = create_model(architecture, parse_products(tensor_products), datasets.statistics, dtype, seed=0, kernel=kernel)
    buckets = choose_buckets(datasets.train, batch_size)
    batch = next(BatchLoader(datasets.train, batch_size, buckets, dtype).epoch(0))
    optimizer = make_optimizer(amsgrad=True, beta1=0.9, beta2=0.999, weight_decay=5e-7, max_grad_norm=10.0)
    program = make_train_step(make_predict(model.graphdef), optimizer)
    control = jax.tree.map(np.float32, Control(learning_rate=0.01, weights=build_loss_weights(config.loss), ema_decay=0.99))
    state = initial_state(model.params, optimizer)

    def run() -> jax.Array:
        nonlocal state
        state, loss = jax.block_until_ready(program(state, batch, control))
        return loss

    return Step(run, program, batch)
