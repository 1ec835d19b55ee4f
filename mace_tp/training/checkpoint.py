"""Checkpoints to resume from: the whole state of a training, written by orbax in the background, complete or absent."""

import dataclasses
import json
import logging
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from mace_tp.errors import InputError
from mace_tp.training.state import Params, TrainState, flatten_moments, name_moments

_LOG = logging.getLogger("mace_tp")


@dataclasses.dataclass
class Progress:
    """What a training knows besides arrays; JSON in a checkpoint."""

    epoch: int = 0  # epochs completed
    elapsed_seconds: float = 0.0  # of all sessions so far
    by_clock: float = 0.0  # fraction of trainer.max_minutes that the updates have used
    stage: int = 0
    best_loss: float | None = None  # of the current stage
    best_epoch: int = 0
    schedule: dict[str, float] = dataclasses.field(default_factory=dict)  # fields of the learning-rate schedule


class Checkpoints:
    """The last two checkpoints of a run, each with the best averaged parameters so far."""

    def __init__(self, directory: Path) -> None:
        # orbax logs every array that it writes.
        logging.getLogger("absl").setLevel(logging.WARNING)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, state: TrainState, best_params: Params, progress: Progress) -> None:
        """Copy to the host and write in the background."""
        arrays = ocp.args.StandardSave({"state": name_moments(state), "best_params": best_params})
        self._manager.save(progress.epoch, args=ocp.args.Composite(arrays=arrays, progress=ocp.args.JsonSave(dataclasses.asdict(progress))))

    def restore(self, state: TrainState, best_params: Params) -> tuple[TrainState, Params, Progress] | None:
        """The newest checkpoint, in the shapes of what is given; None where there is none.

        Raises:
            InputError: the checkpoint holds other parameters than the configured model has.
        """
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, {"state": name_moments(state), "best_params": best_params})
        arguments = ocp.args.Composite(arrays=ocp.args.StandardRestore(template), progress=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(epoch, args=arguments)
        except (ValueError, KeyError, OSError, json.JSONDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self._manager.directory}: checkpoint {epoch} does not fit the model or is damaged ({reason})") from error
        return flatten_moments(restored.arrays["state"], state), restored.arrays["best_params"], Progress(**restored.progress)

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()
