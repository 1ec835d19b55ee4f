"""Where the numbers of a training go: JSON lines, wandb, the terminal and `train.log`."""

import contextlib
import io
import json
import logging
import math
import numbers
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import rich
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mace_tp.runtime.compilation import shown_compilations
from mace_tp.training.wandb_logger import WandbLogger

__all__ = ["FILE_ONLY", "JsonlLogger", "Logger", "Loggers", "TrainingProgress", "WandbLogger", "setup_logging"]

_LOG = logging.getLogger("mace_tp")
# Lines that reach the file only, such as those of epochs: TrainingProgress prints them itself, fitted to the terminal.
FILE_ONLY = logging.getLogger("mace_tp.file_only")
# The live bar and the lines above it have to go through one console.
_CONSOLE = rich.get_console()


class Logger(Protocol):
    """Takes the metrics of a training as they come."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record scalars, by the names of `metrics.jsonl`, at an optimizer step."""

    def finish(self) -> None:
        """Write what is outstanding; nothing may be logged after it."""


class Loggers(list[Logger]):
    """Several loggers as one; an empty one is the logger that does nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for logger in self:
            logger.log(step, metrics)

    def finish(self) -> None:
        with contextlib.ExitStack() as stack:  # every one is finished, even where another raises
            for logger in self:
                stack.callback(logger.finish)


class JsonlLogger:
    """Appends a line of strict JSON per call; a number that is not finite becomes null, since JSON has no word for it.

    A line goes to the operating system in one write, so that a killed run leaves whole lines. Where a file is torn all the
    same (a full disk, a crash of the machine), its unfinished last line is removed before the first new one. So are lines
    of epochs behind `last_epoch`, from which a resumed training goes on: they will come again.
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
    """Cut a file of records behind epoch `last`, or behind its first line that is torn or damaged."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    size = 0
    for number, line in enumerate(lines, 1):
        epoch = _epoch_of(line)
        if epoch is None:
            if line.endswith(b"\n"):
                _LOG.warning("%s: line %d is damaged; it and those behind it are removed", path, number)
            break
        if last is not None and epoch > last:
            break
        size += len(line)
    if lines and size < path.stat().st_size:
        os.truncate(path, size)


def _epoch_of(line: bytes) -> int | None:
    """The epoch of a record; zero where it has none, None where the line is not a whole record."""
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
    optional: bool = False  # left out, title and all, where the record has no such key


_COLUMNS = (
    _Column("epoch", "epoch", "d", 0),
    _Column("lr", "learning_rate", ".1e", 6),
    _Column("train loss", "train_loss", ".3e", 4),
    _Column("valid loss", "valid_loss", ".3e", 3),
    _Column("E RMSE meV/atom", "energy_rmse", ".2f", 2),
    _Column("F RMSE meV/Å", "force_rmse", ".2f", 1),
    _Column("S MAE meV/Å³", "stress_mae", ".3f", 5, optional=True),
    _Column("s/epoch", "epoch_seconds", ".1f", 7),
    _Column("elapsed", "elapsed", "s", 8),
)
_HEADER_EVERY = 25  # lines: about one screen
_REFRESH = 4  # bars per second
_BAR_MIN, _BAR_MAX = 8, 30  # characters


class TrainingProgress:
    """Shows a training: a live bar where there is a terminal, and one permanent line per epoch everywhere.

    Args:
        enabled: whether a terminal gets the bar; the lines come either way.
        total_epochs: at most so many.
        console: its kind and width decide what is shown.
    """

    def __init__(self, enabled: bool, total_epochs: int, console: Console = _CONSOLE) -> None:
        self._console = console
        self._total_epochs = total_epochs
        self._epoch, self._batch, self._num_batches, self._passed_over = 1, 0, 0, 0
        self._fraction = 0.0
        self._loss: float | None = None
        self._record: Mapping[str, float | None] = {}
        self._began = time.monotonic()
        self._reference: tuple[float, float] | None = None  # time and fraction of the first update; before it lies compilation
        self._num_lines = 0
        self._compiling_since: float | None = None
        self._exit = contextlib.ExitStack()
        is_live = enabled and console.is_terminal and not console.is_dumb_terminal
        bar = Live(console=console, get_renderable=self._bar, refresh_per_second=_REFRESH, transient=True)
        self._live = bar if is_live else contextlib.nullcontext()

    def __enter__(self) -> Self:
        self._exit.enter_context(self._live)
        if isinstance(self._live, Live):
            self._exit.enter_context(shown_compilations(self._compiling))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exit.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        """The display of compilations: the bar says how long they take already."""
        self._compiling_since = time.monotonic()
        try:
            yield
        finally:
            self._compiling_since = None

    def start_epoch(self, epoch: int, num_batches: int, passed_over: int = 0) -> None:
        """Say which epoch, counted from 1, the next updates belong to, and how many of all epochs are left out."""
        self._epoch, self._batch, self._num_batches, self._passed_over = epoch, 0, num_batches, passed_over

    def update(self, fraction: float, loss: float | None = None, batch: int = 0) -> None:
        """Note how far the training is. Nothing is drawn here: a thread looks at the notes a few times per second.

        Args:
            fraction: of the whole training, in [0, 1].
            loss: recent training loss; None, where it was not looked at, keeps the last one.
            batch: batches done in this epoch; 0 where nobody counts.
        """
        self._fraction, self._batch = min(fraction, 1.0), batch
        if loss is not None:
            self._loss = loss
        if self._reference is None:
            self._reference = (time.monotonic(), fraction)

    def epoch_line(self, record: Mapping[str, float | None]) -> None:
        """Print a record of `metrics.jsonl` as one aligned line, and add it to `train.log`.

        Args:
            record: besides the keys of `metrics.jsonl`, `is_best` marks the line with `*`, and `total_seconds` is the
                elapsed time, which otherwise counts from the making of this object.
        """
        self._record, self._epoch, self._batch = record, int(record["epoch"]) + 1, 0
        elapsed = record.get("total_seconds")
        shown = dict(record) | {"elapsed": _clock(time.monotonic() - self._began if elapsed is None else elapsed)}
        columns = [column for column in _COLUMNS if not column.optional or column.key in record]
        if self._num_lines % _HEADER_EVERY == 0:
            self._print(columns, [column.title for column in columns])
        self._print(columns, [_cell(shown.get(column.key), column.spec) for column in columns], "*" if record.get("is_best") else "")
        self._num_lines += 1

    def _print(self, columns: list[_Column], cells: list[str], mark: str = "") -> None:
        FILE_ONLY.info(_row(columns, cells, mark))
        kept = _fitting(columns, self._console.width) if self._console.is_terminal else columns
        _print_line(self._console, _row(kept, [cell for column, cell in zip(columns, cells, strict=True) if column in kept], mark))

    def _bar(self) -> Text:
        total = self._total_epochs - self._passed_over
        left = [(0, f"epoch {min(self._epoch, total)}/{total}")]
        if self._batch:
            left.append((5, f"batch {self._batch}/{self._num_batches}"))
        since = self._compiling_since
        time_left = f"{self._time_left()} left" if since is None else f"compiling {_clock(time.monotonic() - since)}"
        right = [(1, f"{self._fraction:.0%}"), (2, time_left)]
        if self._loss is not None:
            right.append((3, f"loss {self._loss:.3g}"))
        errors = [("E", "energy_rmse", "meV/atom"), ("F", "force_rmse", "meV/Å")]
        known = [f"{name} {self._record[key]:.1f} {unit}" for name, key, unit in errors if self._record.get(key) is not None]
        if known:
            right.append((4, "valid " + " ".join(known)))
        return _bar_line(left, right, self._fraction, self._console)

    def _time_left(self) -> str:
        if self._reference is None or self._fraction <= self._reference[1]:
            return "--:--"
        began, start = self._reference
        return _clock((time.monotonic() - began) / (self._fraction - start) * (1 - self._fraction))


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"


def _cell(value: float | str | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _column_width(column: _Column) -> int:
    return max(len(column.title), 8)


def _row(columns: list[_Column], cells: list[str], mark: str) -> str:
    return "  ".join(cell.rjust(_column_width(column)) for column, cell in zip(columns, cells, strict=True)) + f" {mark}".rstrip()


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """The columns that fit a terminal, in their order; the first always stays."""
    kept = list(columns)
    while len(kept) > 1 and sum(_column_width(column) + 2 for column in kept) > width:
        kept.remove(max(kept, key=lambda column: column.rank))
    return kept


def _bar_line(left: list[tuple[int, str]], right: list[tuple[int, str]], fraction: float, console: Console) -> Text:
    """One line: (rank, text) pieces around a bar. A narrow terminal loses the highest ranks first, then the bar."""
    width = max(console.width - 1, 1)  # a full line makes some terminals wrap
    room, kept = width - _BAR_MIN, {0}
    for rank, text in sorted(left + right):
        room -= len(text) + 2
        if room < 0:
            break
        kept.add(rank)
    before, after = ([Text(_encodable(text, console)) for rank, text in side if rank in kept] for side in (left, right))
    length = min(_BAR_MAX, width - sum(len(text) + 2 for text in before + after))
    bar = [_bar_of(length, fraction, console)] if length >= _BAR_MIN else []
    line = Text("  ", no_wrap=True, overflow="ellipsis").join(before + bar + after)
    line.truncate(width)
    return line


def _bar_of(length: int, fraction: float, console: Console) -> Text:
    done, rest = "━─" if console.encoding.startswith("utf") else "#-"  # two glyphs: a terminal need not have colors
    filled = min(int(fraction * length), length)
    return Text.assemble((done * filled, "bar.complete"), (rest * (length - filled), "bar.back"))


def _encodable(text: str, console: Console) -> str:
    return text.encode(console.encoding, errors="replace").decode(console.encoding)


def _print_line(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is: not wrapped, and without control codes where there is no terminal."""
    line = Text(_encodable(text, console), style=style if console.is_terminal else "")
    console.print(line, soft_wrap=True, highlight=False)


class _ConsoleHandler(logging.Handler):
    """Prints messages above the live bar; warnings are marked."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.addFilter(lambda record: record.name != FILE_ONLY.name)

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        message = f"{record.levelname.lower()}: {record.getMessage()}" if is_warning else record.getMessage()
        _print_line(self._console, message, "yellow" if is_warning else "")


def setup_logging(path: Path, console: Console = _CONSOLE) -> None:
    """Send what the program says to the terminal, and with times to a file, which is appended to.

    Takes the place of an earlier call: a sweep trains several times in one process.
    """
    for handler in list(_LOG.handlers):
        _LOG.removeHandler(handler)
        handler.close()
    logging.raiseExceptions = False  # on a full disk each line that cannot be logged would print a traceback
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    _LOG.addHandler(file)
    _LOG.addHandler(_ConsoleHandler(console))
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False  # libraries put handlers of their own on the root (orbax does), which would print everything twice
