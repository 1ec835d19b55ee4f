"""Shows compilations in a terminal: the elapsed time, and for commands without a log a line before each."""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mace_tp.runtime.compilation import LOGGER, shown_compilations

_REFRESH = 4  # per second


def elapsed_time() -> AbstractContextManager[object]:
    """Show the elapsed time as long as the context is open, if stderr is a terminal; leave no line behind."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        return contextlib.nullcontext()
    columns = SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn()
    progress = Progress(*columns, console=console, transient=True, redirect_stdout=False, refresh_per_second=_REFRESH)
    progress.add_task("compiling", total=None)
    return progress


@contextlib.contextmanager
def told_compilations() -> Iterator[None]:
    """Print a line for each compilation on stdout, for a command without a log. May be used as a decorator."""
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
    """Prints on the current sys.stdout, because a progress bar replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)
