"""Compilations in a terminal: the time that has gone by while they last, and a line before them for commands without a log."""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mace_tp.runtime.compilation import LOGGER, shown_compilations

_REFRESH = 4  # per second


def elapsed_time() -> AbstractContextManager[object]:
    """Show the time since it was entered, where stderr is a terminal, and leave nothing behind."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        return contextlib.nullcontext()
    columns = SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn()
    progress = Progress(*columns, console=console, transient=True, redirect_stdout=False, refresh_per_second=_REFRESH)
    progress.add_task("compiling", total=None)
    return progress


@contextlib.contextmanager
def told_compilations() -> Iterator[None]:
    """Tell compilations on stdout, for a command that has no log; it may decorate a function."""
    handler, level = _StdoutHandler(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        with shown_compilations(elapsed_time):
            yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


class _StdoutHandler(logging.Handler):
    """Prints on what is stdout at the time: a progress bar puts something in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)
