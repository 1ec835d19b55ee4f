"""Everything of a training up to its first step; nothing is written into the run directory."""

import contextlib
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.config import Config, check_config
from mace_tp.errors import InputError
from mace_tp.runtime.devices import find_device, set_dtype
from mace_tp.runtime.environment import describe, peak_memory_mb
from mace_tp.training.checkpoint import Checkpoints, read_origin
from mace_tp.training.fine_tuning import started_from
from mace_tp.training.loop import build_stages
from mace_tp.training.preparation import Setup, prepare
from mace_tp.training.provenance import as_begun, origin_of, require_same
from mace_tp.training.state import initial_state
from mace_tp.training.step import Control

_LOG = logging.getLogger("mace_tp")


def dry_run(config: Config, run_dir: Path) -> None:
    """Read the data, build the model, compile the step, and say what would be trained.

    Args:
        config: the whole configuration.
        run_dir: of the training; a run that is there is looked at with `trainer.resume`.

    Raises:
        InputError: something that the user gave cannot be used.
    """
    check_config(config)
    dtype = set_dtype(config.dtype)
    device = find_device(config.device)
    environment = describe(device, config.dtype)
    _LOG.info(" · ".join(f"{name} {value}" for name, value in environment.items()))
    checkpoints = run_dir / "checkpoints"
    with jax.default_device(device):
        before = None if config.trainer.resume is None else read_origin(checkpoints)
        config = as_begun(config, before)
        setup = prepare(config, dtype, before)
        params = setup.model.params
        if before is not None:
            origin = origin_of(config, setup.datasets, setup.model.statistics, environment)
            changes = require_same(before, origin, changes_are_wanted=config.trainer.resume == "anyway")
            _require_checkpoint(config, setup, checkpoints, changes)
        elif config.model.init_from is not None:
            params = started_from(config.model.init_from, setup.model, setup.frozen).params
        _compile(config, setup, params, dtype)
        _LOG.info("memory: %.0f MB so far", peak_memory_mb(device))
    _LOG.info(
        "dry run: nothing is trained or written; a training would take %s of %d steps each, into %s",
        " or ".join(_ends(config)),
        setup.train_loader.num_batches,
        run_dir,
    )


def _require_checkpoint(config: Config, setup: Setup, directory: Path, changes: list[str]) -> None:
    """Read the last checkpoint as the training would, and say from where it would go on.

    Raises:
        InputError: no checkpoint is whole and fits the model; with what is different.
    """
    params = setup.model.params
    with contextlib.closing(Checkpoints(directory, is_read_only=True)) as checkpoints:
        try:
            restored = checkpoints.restore(initial_state(params, setup.optimizer), params)
        except InputError as error:
            raise InputError("; ".join([f"trainer.resume={config.trainer.resume}: {error}", *changes])) from error
    if restored is not None:
        _LOG.info("resume: there are %d epochs in the last checkpoint, after which the training would go on", restored.progress.epoch)


def _compile(config: Config, setup: Setup, params: object, dtype: jnp.dtype) -> None:
    """Compile the step for the first batch; the training finds it in the cache."""
    batch = next(setup.train_loader.epoch(0))
    control = Control(config.optimizer.learning_rate, build_stages(config.loss)[0].weights, config.optimizer.ema_decay)
    step = setup.train_step
    step.compile(initial_state(params, setup.optimizer), batch, jax.tree.map(lambda value: np.asarray(value, dtype), control))
    _LOG.info("step: compiled in %.1f s, %.3g GFLOP", step.compile_seconds, 1e-9 * step.flops())


def _ends(config: Config) -> list[str]:
    minutes = config.trainer.max_minutes
    return [*([] if minutes is None else [f"{minutes:g} minutes"]), f"{config.trainer.max_epochs} epochs"]
