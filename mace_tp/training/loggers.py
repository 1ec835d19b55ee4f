"""Outputs of a training: JSON lines, wandb, the terminal and `train.log`."""

import contextlib
import io
import json
import logging
import math
import numbers
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import rich
from rich.console import Console
from rich.progress import TaskID
from rich.text import Text

from mace_tp.runtime.compilation import shown_compilations
from mace_tp.training.terminal_bar import TerminalBar
from mace_tp.training.wandb_logger import WandbLogger

__all__ = ["FILE_ONLY", "JsonlLogger", "Logger", "Loggers", "TrainingProgress", "WandbLogger", "setup_logging"]

_LOG = logging.getLogger("mace_tp")
# Its lines reach the file only, such as those of epochs, which TrainingProgress prints itself, fitted to the terminal.
FILE_ONLY = logging.getLogger("mace_tp.file_only")
# The live bar and the lines above it must go through one console.
_CONSOLE = rich.get_console()


class Logger(Protocol):
    """Receives the metrics of a training."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record scalars at an optimizer step, by the names of `metrics.jsonl`."""

    def finish(self) -> None:
        """Write everything that is still buffered; `log` must not be called afterwards."""


class Loggers:
    """Several loggers as one. Without any it does nothing."""

    def __init__(self, loggers: Iterable[Logger] = ()) -> None:
        self._loggers = tuple(loggers)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for logger in self._loggers:
            logger.log(step, metrics)

    def finish(self) -> None:
        with contextlib.ExitStack() as stack:  # finishes every logger, even if one raises
            for logger in self._loggers:
                stack.callback(logger.finish)


class JsonlLogger:
    """Appends a line of strict JSON per call. A number that is not finite becomes null, because JSON has no word for it.

    Each line is one write to the operating system, so that a killed run leaves whole lines. If the last line of the file is
    incomplete all the same (a full disk, a crash of the machine), it is removed before the first new one. A resumed training
    also removes the lines of epochs after `last_epoch`, because it trains them again.
    """

    def __init__(self, path: Path, last_epoch: int | None = None) -> None:
        _keep_epochs(path, last_epoch)
        self._file = io.FileIO(path, "a")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        record = {name: _json_number(value) for name, value in metrics.items()} | {"step": step}
        self._file.write((json.dumps(record, allow_nan=False) + "\n").encode())

    def finish(self) -> None:
        self._file.close()


def _json_number(value: float) -> int | float | None:
    if isinstance(value, numbers.Integral):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _keep_epochs(path: Path, last: int | None) -> None:
    """Truncate a file of records after epoch `last`, or before its first line that is incomplete or damaged."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    size = 0
    for number, line in enumerate(lines, 1):
        epoch = _epoch_of(line)
        if epoch is None:
            if line.endswith(b"\n"):
                _LOG.warning("%s: line %d is damaged; it and all later lines are removed", path, number)
            break
        if last is not None and epoch > last:
            break
        size += len(line)
    if lines and size < path.stat().st_size:
        os.truncate(path, size)


def _epoch_of(line: bytes) -> int | None:
    """The epoch of a record; zero if it has none, None if the line is not a whole record."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record.get("epoch", 0) if isinstance(record, dict) else None


class _Column(NamedTuple):
    """A column of the epoch lines."""

    title: str
    key: str  # of a record
    spec: str  # format of its value
    rank: int  # a narrow terminal loses the highest first


_COLUMNS = (
    _Column("epoch", "epoch", "d", 0),
    _Column("lr", "learning_rate", ".1e", 6),
    _Column("train loss", "train_loss", ".3e", 4),
    _Column("valid loss", "valid_loss", ".3e", 3),
    _Column("E RMSE meV/atom", "energy_rmse", ".2f", 2),
    _Column("F RMSE meV/Å", "force_rmse", ".2f", 1),
    _Column("S MAE meV/Å³", "stress_mae", ".3f", 5),
    _Column("s/epoch", "epoch_seconds", ".1f", 7),
    _Column("elapsed", "elapsed", "s", 8),
)
_OPTIONAL = "stress_mae"  # has no column where the record has no such key
_MIN_WIDTH = 8  # characters of a column
_ERRORS = (("E", "energy_rmse", "meV/atom"), ("F", "force_rmse", "meV/Å"))  # of the last validation, beside the bar
_HEADER_EVERY = 25  # lines: about one screen


class TrainingProgress:
    """Shows a training: a live bar in a terminal, and one permanent line per epoch everywhere.

    Args:
        enabled: whether a terminal gets the bar; the lines come either way.
        total_epochs: the largest number of epochs.
        console: where both are shown.
    """

    def __init__(self, enabled: bool, total_epochs: int, console: Console = _CONSOLE) -> None:
        self._console = console
        self._total_epochs = total_epochs
        self._num_batches = 0
        self._began = time.monotonic()
        self._num_lines = 0
        self._exit = contextlib.ExitStack()
        self._is_live = enabled and console.is_terminal and not console.is_dumb_terminal
        self._bar = TerminalBar(console)
        self._task = self._add_task(f"epoch 1/{total_epochs}", 1.0)

    def _add_task(self, description: str, total: float | None) -> TaskID:
        return self._bar.add_task(description, total=total, batch="", loss="", errors="")

    def __enter__(self) -> Self:
        if self._is_live:
            self._exit.enter_context(self._bar)
            self._exit.enter_context(shown_compilations(self._compiling))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exit.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        """A line below the bar with the time that the compilation has taken so far."""
        task = self._add_task("compiling", None)
        try:
            yield
        finally:
            self._bar.remove_task(task)

    def start_epoch(self, epoch: int, num_batches: int, passed_over: int = 0) -> None:
        """Announce the epoch of the next updates, counted from 1, and the number of epochs that the training leaves out."""
        total = self._total_epochs - passed_over
        self._num_batches = num_batches
        self._bar.update(self._task, description=f"epoch {min(epoch, total)}/{total}", batch="")

    def update(self, fraction: float, loss: float | None = None, batch: int = 0) -> None:
        """Note the progress of the training. A thread draws it a few times per second.

        Args:
            fraction: of the whole training, in [0, 1].
            loss: recent training loss; None keeps the last one.
            batch: batches done in this epoch; 0 where nobody counts.
        """
        self._bar.update(self._task, completed=min(fraction, 1.0), batch=f"batch {batch}/{self._num_batches}" if batch else "")
        if loss is not None:
            self._bar.update(self._task, loss=f"loss {loss:.3g}")

    def epoch_line(self, record: Mapping[str, float | None]) -> None:
        """Print a record of `metrics.jsonl` as one aligned line, and add it to `train.log`.

        Args:
            record: besides the keys of `metrics.jsonl`, `is_best` marks the line with `*`, and `total_seconds` is the
                elapsed time, which otherwise counts from the creation of this object.
        """
        elapsed = record.get("total_seconds")
        shown = dict(record) | {"elapsed": _clock(time.monotonic() - self._began if elapsed is None else elapsed)}
        columns = [column for column in _COLUMNS if column.key != _OPTIONAL or _OPTIONAL in record]
        if self._num_lines % _HEADER_EVERY == 0:
            self._print(columns, [column.title for column in columns])
        cells = ["-" if shown.get(column.key) is None else format(shown[column.key], column.spec) for column in columns]
        self._print(columns, cells, " *" if record.get("is_best") else "")
        self._num_lines += 1
        errors = [f"{name} {record[key]:.1f} {unit}" for name, key, unit in _ERRORS if record.get(key) is not None]
        if errors:
            self._bar.update(self._task, errors=_encodable(f"valid {' '.join(errors)}", self._console))

    def _print(self, columns: Sequence[_Column], cells: Sequence[str], mark: str = "") -> None:
        """Print a cell for each column: all to the file, and those that fit to a terminal."""
        aligned = {column: cell.rjust(_width(column)) for column, cell in zip(columns, cells, strict=True)}
        FILE_ONLY.info("  ".join(aligned.values()) + mark)
        while self._console.is_terminal and len(aligned) > 1 and sum(_width(column) + 2 for column in aligned) > self._console.width:
            del aligned[max(aligned, key=lambda column: column.rank)]
        _print_line(self._console, "  ".join(aligned.values()) + mark)


def _width(column: _Column) -> int:
    return max(len(column.title), _MIN_WIDTH)


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"


def _encodable(text: str, console: Console) -> str:
    return text.encode(console.encoding, errors="replace").decode(console.encoding)


def _print_line(console: Console, text: str, style: str = "") -> None:
    """Print a line unwrapped, and without control codes where there is no terminal."""
    line = Text(_encodable(text, console), style=style if console.is_terminal else "")
    console.print(line, soft_wrap=True, highlight=False)


class _ConsoleHandler(logging.Handler):
    """Prints messages above the live bar, with a mark on warnings."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.addFilter(lambda record: record.name != FILE_ONLY.name)

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        message = f"{record.levelname.lower()}: {record.getMessage()}" if is_warning else record.getMessage()
        _print_line(self._console, message, "yellow" if is_warning else "")


def setup_logging(path: Path, console: Console = _CONSOLE) -> None:
    """Send log messages to the terminal, and with their times to the end of a file.

    Replaces an earlier call: a sweep trains several times in one process.
    """
    for handler in list(_LOG.handlers):
        _LOG.removeHandler(handler)
        handler.close()
    logging.raiseExceptions = False  # else each line that a full disk refuses would print a traceback
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    _LOG.addHandler(file)
    _LOG.addHandler(_ConsoleHandler(console))
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False  # handlers that libraries such as orbax put on the root would print everything twice
