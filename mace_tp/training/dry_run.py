"""Everything of a training up to its first step; nothing is written into the run directory."""

import contextlib
import logging
from pathlib import Path

from mace_tp.config import Config
from mace_tp.run_directory import CHECKPOINTS
from mace_tp.runtime.devices import find_device
from mace_tp.runtime.environment import peak_memory_mb
from mace_tp.training.checkpoint import Checkpoints
from mace_tp.training.preparation import compile_step, computing, prepare
from mace_tp.training.resume import begin

_LOG = logging.getLogger("mace_tp")


def dry_run(config: Config, run_dir: Path) -> None:
    """Read the data, build the model, compile the step, and log what would be trained.

    Args:
        config: the whole configuration.
        run_dir: of the training. With `trainer.resume` a run in it is read.

    Raises:
        InputError: something that the user gave cannot be used.
    """
    with computing(config) as environment, contextlib.closing(Checkpoints(run_dir / CHECKPOINTS, is_read_only=True)) as checkpoints:
        setup = prepare(config, environment, run_dir)
        start = begin(setup, checkpoints)
        if start.progress.num_batches:
            epochs = start.progress.epoch
            _LOG.info("resume: there are %d epochs in the last checkpoint, after which the training would go on", epochs)
        compile_step(setup, start.state, start.progress.epoch)
        step = setup.train_step
        _LOG.info("step: compiled in %.1f s, %.3g GFLOP", step.compile_seconds, 1e-9 * step.flops())
        _LOG.info("memory: %.0f MB so far", peak_memory_mb(find_device(config.device)))
    minutes = config.trainer.max_minutes
    ends = [*([] if minutes is None else [f"{minutes:g} minutes"]), f"{config.trainer.max_epochs} epochs"]
    _LOG.info(
        "dry run: nothing is trained or written; a training would take %s of %d steps each, into %s",
        " or ".join(ends),
        setup.train_loader.num_batches,
        run_dir,
    )
