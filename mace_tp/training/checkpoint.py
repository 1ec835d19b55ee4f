"""Checkpoints to resume from: the whole state of a training, written by orbax in the background, complete or absent.

Each checkpoint holds a digest of its contents. If the digest does not match, the checkpoint is damaged and the one before is used.
Checkpoints hold arrays and JSON; nothing in them can execute code.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from mace_tp.errors import InputError, TrainingError
from mace_tp.model.parameters import Params
from mace_tp.training.progress import Progress
from mace_tp.training.state import TrainState, flatten_moments, name_moments

_LOG = logging.getLogger("mace_tp")


class Snapshot(NamedTuple):
    """Everything that changes in the course of a training, as a checkpoint keeps it."""

    state: TrainState
    best_params: Params  # averaged parameters of the best epoch
    progress: Progress


def read_provenance(directory: Path) -> dict[str, Any] | None:
    """Provenance of the training that wrote the checkpoints in a folder; None without checkpoints. The folder is not changed."""
    with contextlib.closing(Checkpoints(directory, is_read_only=True)) as checkpoints:
        return checkpoints.provenance()


class Checkpoints:
    """The last two checkpoints of a run, and those of chosen epochs; each also holds the best averaged parameters so far."""

    def __init__(self, directory: Path, provenance: dict[str, Any] | None = None, *, is_read_only: bool = False) -> None:
        """
        Args:
            directory: made if it is not there.
            provenance: configuration, statistics, data and versions of the training, as JSON; written into every checkpoint.
            is_read_only: whether the directory stays as it is; otherwise unfinished checkpoints are removed, and damaged ones renamed.
        """
        self.directory = directory.absolute()
        self._keep = _LastTwoAndKept(set())
        self._is_read_only = is_read_only
        self._provenance = provenance or {}

    @functools.cached_property
    def _manager(self) -> Any:
        """The manager of orbax, made when the first checkpoint is read or written."""
        # orbax logs every array that it writes.
        logging.getLogger("absl").setLevel(logging.WARNING)
        # orbax also has an option `read_only`, but warns if it is used.
        options = _orbax().CheckpointManagerOptions(
            preservation_policy=self._keep,
            enable_async_checkpointing=True,
            cleanup_tmp_directories=not self._is_read_only,
            create=not self._is_read_only,
        )
        return _orbax().CheckpointManager(self.directory, options=options)

    def save(self, state: TrainState, best_params: Params, progress: Progress) -> None:
        """Copy to the host and write in the background; do nothing if there is a checkpoint of this number.

        Args:
            state: the current state.
            best_params: averaged parameters of the best epoch.
            progress: everything else; `num_batches` is the number of the checkpoint.

        Raises:
            TrainingError: this checkpoint, or the one before, cannot be written.
        """
        self._keep.numbers.update(progress.kept)
        if progress.num_batches in self._manager.all_steps():
            return
        ocp = _orbax()
        arrays = jax.device_get({"state": name_moments(state), "best_params": best_params})
        about = {"progress": dataclasses.asdict(progress), "origin": self._provenance}
        items = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays),
            about=ocp.args.JsonSave(about | {"digest": _digest(arrays, about), "digest_of_this": _digest({}, about)}),
        )
        with self._complaining():
            self._manager.save(progress.num_batches, args=items)

    def provenance(self) -> dict[str, Any] | None:
        """Provenance in the newest readable checkpoint; None if there is no such checkpoint, or if its version kept none."""
        ocp = _orbax()
        for number in self._numbers():
            with contextlib.suppress(Exception):  # damaged: `restore` will say so
                about = self._manager.restore(number, args=ocp.args.Composite(about=ocp.args.JsonRestore())).about
                content = {name: about[name] for name in ("progress", "origin")}
                if about.get("digest_of_this", _digest({}, content)) == _digest({}, content):  # older ones have no such digest
                    return content["origin"]
        return None

    def restore(self, state: TrainState, best_params: Params) -> Snapshot | None:
        """Read the newest checkpoint that is whole; None if there is none. Damaged checkpoints are put aside.

        Args:
            state: gives the shapes and dtypes to read.
            best_params: likewise.

        Raises:
            InputError: there are checkpoints, but none is whole and fits the model.
        """
        ocp = _orbax()
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, {"state": name_moments(state), "best_params": best_params})
        reasons: dict[int, str] = {}
        for number in self._numbers():
            try:
                arrays, about = self._read(number, template)
            # orbax, tensorstore and zstd have no common exception for damaged files.
            except Exception as error:
                reasons[number] = (str(error).splitlines() or [type(error).__name__])[0][:200]
                continue
            self._put_aside(reasons)
            known = {field.name for field in dataclasses.fields(Progress)}  # checkpoints of other versions may have more fields
            progress = Progress(**{name: value for name, value in about["progress"].items() if name in known})
            self._keep.numbers.update(progress.kept)
            # Older versions numbered checkpoints by epochs.
            progress.num_batches = number
            return Snapshot(flatten_moments(arrays["state"], state), arrays["best_params"], progress)
        if reasons:
            newest = max(reasons)
            raise InputError(f"{self.directory}: no checkpoint is whole and fits the model; the newest, {newest}: {reasons[newest]}")
        return None

    def _numbers(self) -> list[int]:
        """Numbers of the checkpoints, the newest first."""
        if self._is_read_only and not self.directory.is_dir():
            return []
        return sorted(self._manager.all_steps(), reverse=True)

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            TrainingError: a checkpoint could not be written.
        """
        if "_manager" not in vars(self):  # nothing has been read or written
            return
        with self._complaining():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait as `wait` does, and end the threads."""
        self.wait()
        if "_manager" in vars(self):
            self._manager.close()

    def _read(self, number: int, template: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        ocp = _orbax()
        self._require_shapes(number, template)
        arguments = {"arrays": ocp.args.StandardRestore(template)}
        if not (self.directory / str(number) / "about").exists():  # of a version before digests
            restored = self._manager.restore(number, args=ocp.args.Composite(progress=ocp.args.JsonRestore(), **arguments))
            return restored.arrays, {"progress": restored.progress}
        restored = self._manager.restore(number, args=ocp.args.Composite(about=ocp.args.JsonRestore(), **arguments))
        about = {name: restored.about[name] for name in ("progress", "origin")}
        if restored.about["digest"] != _digest(jax.device_get(restored.arrays), about):
            raise ValueError("its contents have changed since they were written")
        return restored.arrays, about

    def _require_shapes(self, number: int, template: dict[str, Any]) -> None:
        """Raise a ValueError that names an array whose shape differs; the message of orbax would be about orbax."""
        there = _shapes(_orbax().StandardCheckpointHandler().metadata(self.directory / str(number) / "arrays").tree)
        here = _shapes(template)
        if there != here:
            name = min(name for name in {*there, *here} if there.get(name) != here.get(name))
            raise ValueError(f"another model or optimizer, {name} is {there.get(name, 'not there')}, must be {here.get(name, 'not there')}")

    def _put_aside(self, reasons: dict[int, str]) -> None:
        """Rename damaged checkpoints, so that their numbers are free and somebody can look at them."""
        for number, reason in reasons.items():
            if self._is_read_only:
                _LOG.warning("checkpoint %d is damaged (%s); the one before is used", number, reason)
                continue
            damaged = self.directory / f"{number}.damaged"
            shutil.rmtree(damaged, ignore_errors=True)
            (self.directory / str(number)).rename(damaged)
            _LOG.warning("checkpoint %d is damaged (%s); it is now %s, and the one before is used", number, reason, damaged)
        if reasons and not self._is_read_only:
            self._manager.reload()

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        # tensorstore raises exceptions of many types in its threads.
        except Exception as error:
            kept = ", ".join(map(str, self._manager.all_steps())) or "none"
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise TrainingError(f"{self.directory}: a checkpoint could not be written ({reason}); complete: {kept}") from error


@dataclasses.dataclass
class _LastTwoAndKept:
    """Tells orbax which checkpoints to keep; a `PreservationPolicy` of orbax."""

    numbers: set[int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        last = {checkpoint.step for checkpoint in checkpoints[-2:]}
        return [checkpoint.step in last | self.numbers for checkpoint in checkpoints]


def _orbax() -> ModuleType:
    import orbax.checkpoint  # slow to load; the first step does not wait for it

    return orbax.checkpoint


def _shapes(tree: Any) -> dict[str, str]:
    """Type and shape of every array by its name."""
    names = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name.removesuffix(".value"): f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in names.items()}


def _digest(arrays: dict[str, Any], about: dict[str, Any]) -> str:
    """SHA-256 of the JSON and of every array in the order of the tree."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
