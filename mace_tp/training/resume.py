"""The beginning of a training: from random weights, from another model, or from the last checkpoint of its run directory."""

import logging
import math
from typing import Any

import jax
import jax.numpy as jnp

from mace_tp.data.batching import Bucket
from mace_tp.errors import InputError
from mace_tp.model.parameters import Params
from mace_tp.training.checkpoint import Checkpoints, Snapshot
from mace_tp.training.fine_tuning import started_from
from mace_tp.training.model_card import describe_data_before
from mace_tp.training.preparation import Setup
from mace_tp.training.progress import Progress
from mace_tp.training.provenance import batches_are_same, losses_compare, require_same
from mace_tp.training.schedule import Timetable
from mace_tp.training.state import copied, hold_frozen, initial_state
from mace_tp.training.validation import validation_loss

_LOG = logging.getLogger("mace_tp")


def begin(setup: Setup, checkpoints: Checkpoints) -> Snapshot:
    """State, best parameters and progress with which a training begins.

    Raises:
        InputError: the model to start from, or the checkpoint, does not fit this training.
    """
    config, model = setup.config, setup.model
    if config.trainer.resume is not None and (restored := _restored(setup, checkpoints)) is not None:
        return restored
    path = config.model.init_from
    params = model.params if path is None else started_from(path, model, setup.frozen).params
    return Snapshot(initial_state(params, setup.optimizer), copied(params), Progress())


def _restored(setup: Setup, checkpoints: Checkpoints) -> Snapshot | None:
    """The last checkpoint that is whole; None if there is none yet.

    Raises:
        InputError: no checkpoint fits, or the training is made of something else; lists the differences.
    """
    resume, before, provenance = setup.config.trainer.resume, setup.provenance_before, setup.provenance
    changes = [] if before is None else require_same(before, provenance, changes_are_wanted=resume == "anyway")
    params = setup.model.params
    try:
        restored = checkpoints.restore(initial_state(params, setup.optimizer), params)
    except InputError as error:
        raise InputError("; ".join([f"trainer.resume={resume}: {error}", *changes])) from error
    if restored is None:
        _LOG.info("resume: no checkpoint in %s yet; starting from the beginning", checkpoints.directory)
        return None
    if before is None:
        _LOG.warning("resume: the checkpoint is of a version that kept neither configuration nor data; they are not compared")
    # Arrays that are not bound to a device, as in a new training. Otherwise every step would be compiled anew.
    state, best_params = jax.device_get((restored.state, restored.best_params))
    state, best_params = jax.tree.map(jnp.asarray, (hold_frozen(state, setup.frozen), best_params))
    _fit_to_this_version(restored.progress, before, provenance)
    _fit_to_batches(restored.progress, setup)
    return Snapshot(state, best_params, restored.progress)


def _fit_to_this_version(progress: Progress, before: dict[str, Any] | None, provenance: dict[str, Any]) -> None:
    """Fill in what the checkpoints of earlier versions lack."""
    if progress.training_seconds is None:  # that version's time limit counted from the start of the command
        progress.training_seconds = progress.elapsed_seconds
    if before is not None and not progress.trained_on and before["data"]["training"] != provenance["data"]["training"]:
        progress.trained_on = [describe_data_before(before)]


def _fit_to_batches(progress: Progress, setup: Setup) -> None:
    """Take over the shapes of the batches. If the batches have changed, the epoch that was interrupted begins anew instead."""
    if setup.provenance_before is None or batches_are_same(setup.provenance_before, setup.provenance):
        setup.train_loader.buckets = [Bucket(*shape) for shape in progress.buckets] or setup.train_loader.buckets
        return
    if progress.batch:
        _LOG.info("resume: epoch %d begins anew, because its batches have changed; %d were done", progress.epoch + 1, progress.batch)
    progress.discard_epoch()


def judge_best_anew(setup: Setup, timetable: Timetable, best_params: Params, progress: Progress) -> None:
    """Measure the loss of the kept best model again, if losses to come cannot be compared with the one that the checkpoint holds.

    That is so after a change of the validation data or of the loss. Loss weights also change where a later end of the training leads back
    to stage one. At the beginning of stage two every training compares afresh, so nothing is measured then.
    """
    kept = progress.best_loss
    stage = timetable.stage(timetable.progress(progress.epoch + 1))
    compares = setup.provenance_before is not None and losses_compare(setup.provenance_before, setup.provenance)
    if kept is None or stage > progress.stage or (compares and stage == progress.stage):
        return
    loss = validation_loss(setup, best_params, timetable.stages[stage].weights)
    progress.stage, progress.patience_from = stage, progress.epoch
    progress.best_loss = loss if math.isfinite(loss) else math.inf
    timetable.schedule.restart()
    _LOG.info(
        "resume: the validation data or the loss have changed: the kept best model, of epoch %d, had a validation loss of %.4g and now "
        "has %.4g, with which epochs to come are compared", progress.best_epoch, kept, loss,
    )  # fmt: skip
