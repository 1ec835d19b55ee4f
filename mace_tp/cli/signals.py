"""Signals end a command at any time after its first line, with exit code 128 + the signal's number and without a traceback."""

import contextlib
import functools
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from mace_tp.runtime.leaving import leave
from mace_tp.training.signals import SIGNALS, TrainingStopped

# s until the main thread counts as deaf: Python runs no handler while it is in compiled code.
_DEAF = 1.0
# s for cleaning up after the exception. Code that has caught the exception would go on forever.
_ON_THE_WAY_OUT = 10.0
# s for the last words, which a full pipe would block forever.
_LAST_WORDS = 1.0


def end_on_signals() -> None:
    """Let a signal end the process at once, after flushing the output.

    An exception cannot do this: imports and callbacks of the garbage collector swallow exceptions, and Python runs no handler while the
    main thread is in compiled code, such as XLA's compiler, for minutes. Ignored signals stay ignored. Outside the main thread nothing
    changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    watch = _watch()
    watch.number = None
    for number in SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, watch.handle)
    signal.set_wakeup_fd(watch.writer, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def hold_signals() -> None:
    """Hold signals back until `end_on_signals`, even if the process replaces itself in between."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Within this context a signal raises a KeyboardInterrupt, so that unfinished files are removed and finished ones closed.

    If the exception does not end the process in time or gets lost, or if a second signal comes, the process ends as outside.
    """
    watch, hook = _watch(), sys.unraisablehook

    def told(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, TrainingStopped):
            watch.end(unraisable.exc_value.exit_code - 128)
        hook(unraisable)

    watch.is_raising, sys.unraisablehook = True, told
    try:
        yield
    finally:
        watch.is_raising, sys.unraisablehook = False, hook


@contextlib.contextmanager
def last_words(say: Callable[[str], None]) -> Iterator[None]:
    """Within this context a signal that ends the process passes `stopped by SIGINT` to a function instead of printing it."""
    watch = _watch()
    before, watch.say = watch.say, say
    try:
        yield
    finally:
        watch.say = before


def leave_after_signal() -> None:
    """End the process if a signal has raised an exception. Python's normal shutdown would wait for threads that compile."""
    if (number := _watch().number) is not None:
        _flush()
        leave(128 + number)


def _flush() -> None:
    with contextlib.suppress(Exception, SystemExit):  # the reader has gone or the disk is full; the process ends anyway
        sys.stdout.flush()


def _say(text: str) -> None:
    os.write(2, f"mace-tp: {text}\n".encode())


class _Watch:
    """The handler of signals, and a thread that receives them while the main thread is in compiled code."""

    def __init__(self) -> None:
        self.number: int | None = None  # number of the signal that has raised an exception
        self.is_raising = False
        self.say: Callable[[str], None] = _say
        self._reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        threading.Thread(target=self._run, name="mace_tp_signals", daemon=True).start()
        os.register_at_fork(after_in_child=self._forget)

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle a signal; Python calls this in the main thread, between two instructions."""
        if self.is_raising:
            self.number = self.number or number
            raise TrainingStopped(number)
        time.sleep(2 * _LAST_WORDS)  # meanwhile the thread ends the process, unless Python's shutdown has ended the thread
        leave(128 + number)

    def end(self, number: int) -> None:
        """Print the last words and end the process at once."""
        words = threading.Thread(target=self._last_words, args=[number], daemon=True)
        words.start()
        words.join(_LAST_WORDS)
        leave(128 + number)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # otherwise this thread would receive signals that `hold_signals` holds back
        number = self._next()
        assert number is not None, "it waits without a limit"
        if self.is_raising and not self._next(_DEAF) and self.number is not None:
            self._next(_ON_THE_WAY_OUT)
        self.end(number)

    def _next(self, seconds: float = math.inf) -> int | None:
        """Wait for the next signal that ends the process; None if there is none in time. Python writes every handled signal to the pipe."""
        until = time.monotonic() + seconds
        while select.select([self._reader], [], [], None if seconds == math.inf else max(until - time.monotonic(), 0))[0]:
            (number,) = os.read(self._reader, 1)
            if number in SIGNALS:
                return number
        return None

    def _last_words(self, number: int) -> None:
        with contextlib.suppress(Exception, SystemExit):  # as in `_flush`
            self.say(f"stopped by {signal.Signals(number).name}")
        _flush()

    def _forget(self) -> None:
        """Reset a forked child, so that signals end it without a message to the pipe, which belongs to its parent."""
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) == self.handle:
                signal.signal(number, signal.SIG_DFL)


@functools.cache
def _watch() -> _Watch:
    return _Watch()
