"""Counts of a training: sums over one epoch, and everything besides arrays that a checkpoint keeps."""

import dataclasses
import math

import numpy as np

# An update that is not finite is skipped. After this many in a row the training cannot recover.
_MAX_SKIPPED_IN_A_ROW = 10


@dataclasses.dataclass
class Epoch:
    """Sums over the batches of an epoch that are done, also over those that were done before an interruption."""

    index: int = 0  # counted from 0
    num_batches: int = 0
    num_skipped: int = 0  # batches without an update, because the loss or its gradient was not finite
    loss_sum: float = 0.0  # over the updates
    seconds: float = 0.0
    compile_seconds: float = 0.0
    skipped_in_a_row: list[tuple[int, int]] = dataclasses.field(default_factory=list)  # (epoch, number) of the latest batches, all skipped
    learning_rate: float = math.nan  # of the last step
    last_loss: float = math.nan
    window_seconds: list[float] = dataclasses.field(default_factory=list)  # per step, of windows without a compilation, in this session
    window_cpu_seconds: list[float] = dataclasses.field(default_factory=list)  # the same of all threads of this process
    is_complete: bool = False

    def add(self, loss: float) -> None:
        """Add the loss of the next batch; NaN if its update was skipped."""
        if math.isfinite(loss):
            # One by one: the sum is the same, wherever the epoch was interrupted.
            self.loss_sum += loss
            self.skipped_in_a_row.clear()
        else:
            self.num_skipped += 1
            self.skipped_in_a_row.append((self.index, self.num_batches))
        self.num_batches += 1
        self.last_loss = loss

    def sums(self) -> dict[str, float]:
        """The sums that a checkpoint within the epoch keeps."""
        return {
            "num_skipped": self.num_skipped,
            "loss_sum": self.loss_sum,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
        }

    @property
    def has_failed(self) -> bool:
        """Whether too many updates in a row were not finite."""
        return len(self.skipped_in_a_row) >= _MAX_SKIPPED_IN_A_ROW

    @property
    def loss(self) -> float:
        """Mean over the updates; NaN if there was none."""
        num_updates = self.num_batches - self.num_skipped
        return self.loss_sum / num_updates if num_updates else math.nan

    @property
    def step_quantiles(self) -> tuple[float, ...] | None:
        """Quantiles 0, 1/4, 1/2, 3/4 and 1 of the windows, s per step; None without a window."""
        return tuple(map(float, np.quantile(self.window_seconds, (0, 0.25, 0.5, 0.75, 1)))) if self.window_seconds else None

    @property
    def cpu_per_wall(self) -> float | None:
        """CPU seconds of the process for each second of its steps, lower if the machine does other work too; None without a window."""
        return sum(self.window_cpu_seconds) / sum(self.window_seconds) if self.window_seconds else None


@dataclasses.dataclass
class Progress:
    """How far a training is; JSON in a checkpoint."""

    epoch: int = 0  # epochs completed
    batch: int = 0  # batches of the next epoch that are done
    num_batches: int = 0  # seen in all; the number of the checkpoint
    kept: list[int] = dataclasses.field(default_factory=list)  # numbers of checkpoints that are never deleted
    elapsed_seconds: float = 0.0  # of all sessions so far
    training_seconds: float | None = None  # of all sessions so far, without reading and compilation; None in older checkpoints
    stage: int = 0
    best_loss: float | None = None  # of the current stage
    best_epoch: int = 0
    schedule: dict[str, float] = dataclasses.field(default_factory=dict)  # fields of the learning-rate schedule
    so_far: dict[str, float] = dataclasses.field(default_factory=dict)  # sums over the batches of the next epoch that are done
    buckets: list[list[int]] = dataclasses.field(default_factory=list)  # shapes of the training's batches
    num_skipped: int = 0  # updates that were skipped, because they were not finite
    skipped_in_a_row: list[list[int]] = dataclasses.field(default_factory=list)  # (epoch, batch) of the latest batches, all skipped
    compile_seconds: float = 0.0  # of all sessions so far
    patience_from: int = 0  # epoch from which `trainer.patience` counts, unless a later one was better
    trained_on: list[list[str]] = dataclasses.field(default_factory=list)  # (training data, digest of what was read) for the card, in turn
    passed_over: int = 0  # epochs of stage one that were left out, because nothing got better

    def next_epoch(self) -> Epoch:
        """The epoch to train next, with the batches that are already done."""
        epoch = Epoch(self.epoch, self.batch, skipped_in_a_row=[(epoch, number) for epoch, number in self.skipped_in_a_row])
        if self.so_far:
            epoch.num_skipped, epoch.loss_sum = int(self.so_far["num_skipped"]), self.so_far["loss_sum"]
            epoch.seconds, epoch.compile_seconds = self.so_far["seconds"], self.so_far["compile_seconds"]
        return epoch

    def count(self, epoch: Epoch) -> None:
        """Take over the counts of the epoch that is being trained."""
        self.num_batches += epoch.num_batches - self.batch
        self.num_skipped += epoch.num_skipped - int(self.so_far.get("num_skipped", 0))
        self.skipped_in_a_row = [list(batch) for batch in epoch.skipped_in_a_row]
        self.batch = epoch.num_batches
        self.so_far = epoch.sums()

    def discard_epoch(self) -> None:
        """Forget the batches of the next epoch that are done."""
        self.batch, self.so_far, self.skipped_in_a_row = 0, {}, []

    def begins(self, stage: int) -> bool:
        """Whether the next complete epoch is the first of this stage."""
        return self.best_loss is None or stage != self.stage

    def complete_epoch(self, valid_loss: float, stage: int) -> bool:
        """Count the epoch, and return whether its validation loss is the best of its stage."""
        best_loss = math.inf if self.best_loss is None or stage != self.stage else self.best_loss
        self.epoch, self.batch, self.so_far = self.epoch + 1, 0, {}
        is_best = valid_loss < best_loss
        if is_best:
            self.best_epoch = self.epoch
        self.stage, self.best_loss = stage, min(valid_loss, best_loss)
        return is_best
