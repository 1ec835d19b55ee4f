"""The end of a training: after the last epoch, when its time is over, or when nothing gets better."""

import logging

from mace_tp.config import TrainerConfig
from mace_tp.training.progress import Progress
from mace_tp.training.schedule import Timetable

_LOG = logging.getLogger("mace_tp")


def describe_end(trainer: TrainerConfig, timetable: Timetable, progress: Progress) -> str:
    """A line that says when the training will end, and how much of it is done."""
    left_out = f"={trainer.max_epochs}, {progress.passed_over} of them passed over" if progress.passed_over else ""
    ends = [f"after {trainer.max_epochs - progress.passed_over} epochs (trainer.max_epochs{left_out})"]
    done = [f"{progress.epoch} epochs"]
    if trainer.max_minutes is not None:
        ends.append(f"after {trainer.max_minutes:g} minutes without compilation (trainer.max_minutes)")
        done.append(f"{timetable.seconds() / 60:.1f} minutes")
    if trainer.patience is not None:
        in_stage = " of the last stage" if len(timetable.stages) > 1 else ""
        ends.append(f"after {trainer.patience} epochs{in_stage} without a better validation loss (trainer.patience)")
    so_far = f"; done are {' and '.join(done)}" if progress.num_batches else ""
    return f"the training ends {' or '.join(ends)}{', whichever comes first' if len(ends) > 1 else ''}{so_far}"


def is_over(trainer: TrainerConfig, timetable: Timetable, progress: Progress) -> bool:
    """Whether the training ends after the epochs that are done; logs the reason.

    If nothing got better in stage one for too long, stage two begins instead.
    """
    reason, patience = _reason_to_end(trainer, timetable, progress), trainer.patience
    if reason is not None:
        _LOG.info(reason)
        return True
    if patience is not None and _nothing_gets_better(patience, timetable, progress):
        _begin_next_stage(patience, timetable, progress)
    return False


def _reason_to_end(trainer: TrainerConfig, timetable: Timetable, progress: Progress) -> str | None:
    epoch, passed_over, patience = progress.epoch, progress.passed_over, trainer.patience
    if not epoch:  # every training has an epoch, if only of one step: without it there would be no model
        return None
    if epoch + passed_over >= trainer.max_epochs:
        left_out = f", {passed_over} of them passed over" if passed_over else ""
        return f"the training ends after epoch {epoch}: trainer.max_epochs={trainer.max_epochs} is reached{left_out}"
    if timetable.by_clock() >= 1:
        minutes = f"the {trainer.max_minutes:g} minutes of trainer.max_minutes are over"
        return f"the training ends after epoch {epoch} of {trainer.max_epochs - passed_over}: {minutes}"
    is_last_stage = progress.stage + 1 == len(timetable.stages)
    if patience is not None and is_last_stage and _nothing_gets_better(patience, timetable, progress):
        return f"early stop: no better validation loss for {patience} epochs"
    return None


def _nothing_gets_better(patience: int, timetable: Timetable, progress: Progress) -> bool:
    """Whether the last epochs of a stage brought no better validation loss; false if the next epoch begins another stage."""
    num_worse = progress.epoch - max(progress.best_epoch, progress.patience_from)
    return num_worse >= patience and timetable.stage(timetable.progress(progress.epoch)) <= progress.stage


def _begin_next_stage(patience: int, timetable: Timetable, progress: Progress) -> None:
    """Pass over the epochs that are left of this stage."""
    start, max_epochs = timetable.stages[progress.stage + 1].start, timetable.max_epochs
    first = next((epoch for epoch in range(progress.epoch, max_epochs) if epoch / max_epochs >= start), max_epochs - 1)
    progress.passed_over = timetable.passed_over = first - progress.epoch
    _LOG.info(
        "stage two begins early: no better validation loss for %d epochs; %d epochs are passed over, at most %d are left", patience,
        progress.passed_over, max_epochs - first,
    )  # fmt: skip
