"""A whole training: data → model → epochs → test errors, all of it kept in a run directory."""

import logging
import time
from pathlib import Path
from typing import Any

import jax

from mace_tp.config import Config, check_config
from mace_tp.errors import TrainingError
from mace_tp.runtime.compilation import counted_compilations
from mace_tp.runtime.devices import find_device, set_dtype
from mace_tp.runtime.environment import describe, peak_memory_mb
from mace_tp.runtime.forked import refuse_fork
from mace_tp.tensor_products.compiled import kernel_beside
from mace_tp.training.checkpoint import read_origin
from mace_tp.training.preparation import prepare
from mace_tp.training.provenance import as_begun, origin_of
from mace_tp.training.results import draw, final_outcomes, write_results
from mace_tp.training.session import Session

_LOG = logging.getLogger("mace_tp")


def train(config: Config, run_dir: Path, started: float | None = None) -> dict[str, Any]:
    """Train as configured and return what `results.json` holds.

    Args:
        config: the whole configuration.
        run_dir: exists; receives everything.
        started: time.monotonic() when the command began, from which `total_seconds` counts; now, if None.

    Raises:
        InputError: something that the user gave cannot be used; raised before the training starts.
        TrainingError: it cannot go on: numbers that are not finite, a disk that is full.
        TrainingStopped: a signal has ended it after a step; `trainer.resume=auto` goes on from there.
    """
    refuse_fork()
    check_config(config)
    dtype = set_dtype(config.dtype)
    device = find_device(config.device)
    environment = describe(device, config.dtype)
    _LOG.info(" · ".join(f"{name} {value}" for name, value in environment.items()))
    with jax.default_device(device), counted_compilations() as compilations, kernel_beside(config.kernel, config.dtype):
        before = None if config.trainer.resume is None else read_origin(run_dir / "checkpoints")
        config = as_begun(config, before)
        setup = prepare(config, dtype, before)
        origin = origin_of(config, setup.datasets, setup.model.statistics, environment)
        try:
            session = Session(config, run_dir, time.monotonic() if started is None else started, setup, origin, compilations)
            try:
                session.run_epochs()
                return _finish(session, environment, peak_memory_mb(device))
            finally:
                session.close()
        except OSError as error:
            raise TrainingError(
                f"{error.filename or run_dir}: cannot be written ({error.strerror}); checkpoints that are complete are kept"
            ) from error


def _finish(session: Session, environment: dict[str, str | int], memory_mb: float) -> dict[str, Any]:
    outcomes = final_outcomes(session.setup, session.best_params)
    errors = {name: outcome.errors for name, outcome in outcomes.items()}
    session.save_model(errors)
    results = write_results(
        session.run_dir, session.setup, errors, session.totals() | {"peak_memory_mb": memory_mb, "environment": environment}
    )
    draw(session.run_dir, outcomes)
    return results
