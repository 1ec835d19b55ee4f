"""Signals that end a command, from its first line on: with 128 + the signal's number, without a traceback, whatever it is doing."""

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

# s. Python runs no handler while the main thread is in compiled code.
_DEAF = 1.0
# s for what is done on the way out. An exception that somebody has caught does not end anything.
_ON_THE_WAY_OUT = 10.0
# s for the last words, which a pipe that takes nothing more would hold up for ever.
_LAST_WORDS = 1.0


def end_on_signals() -> None:
    """Let a signal end the process, at once and with what was printed so far.

    No exception does it: imports and callbacks of the garbage collector swallow exceptions, and while the main thread is in compiled code,
    such as XLA's compiler for minutes, Python runs no handler. Signals that are ignored stay so, and where this is not the main thread,
    nothing changes.
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
    """Let signals wait until `end_on_signals`, also where the process replaces itself before that."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Within it a signal raises a KeyboardInterrupt, so that unfinished files are removed and finished ones closed.

    Where that does not end the process in time, or the exception gets lost, or a second signal comes, it ends as elsewhere.
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
    """Within it a signal that ends the process calls a function with `stopped by SIGINT` instead of writing a line."""
    watch = _watch()
    before, watch.say = watch.say, say
    try:
        yield
    finally:
        watch.say = before


def leave_after_signal() -> None:
    """End the process if a signal has raised an exception, and not by way of the interpreter's end: threads may be compiling."""
    if (number := _watch().number) is not None:
        _flush()
        leave(128 + number)


def _flush() -> None:
    with contextlib.suppress(Exception, SystemExit):  # nobody reads it, or the disk is full: the process ends all the same
        sys.stdout.flush()


def _say(text: str) -> None:
    os.write(2, f"mace-tp: {text}\n".encode())


class _Watch:
    """The handler, and a thread that hears of signals when the main thread does not."""

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal that has raised an exception
        self.is_raising = False
        self.say = _say
        self._reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        threading.Thread(target=self._run, name="mace_tp_signals", daemon=True).start()
        os.register_at_fork(after_in_child=self._forget)

    def handle(self, number: int, _: FrameType | None) -> None:
        """Signal handler; Python calls it in the main thread, between two instructions."""
        if self.is_raising:
            self.number = self.number or number
            raise TrainingStopped(number)
        time.sleep(2 * _LAST_WORDS)  # the thread ends the process meanwhile, unless the interpreter has ended it
        leave(128 + number)

    def end(self, number: int) -> None:
        """End the process at once, after the last words."""
        words = threading.Thread(target=self._last_words, args=[number], daemon=True)
        words.start()
        words.join(_LAST_WORDS)
        leave(128 + number)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # or this thread would take those that `hold_signals` holds
        number = self._next()
        if self.is_raising and not self._next(_DEAF) and self.number is not None:
            self._next(_ON_THE_WAY_OUT)
        self.end(number)

    def _next(self, seconds: float = math.inf) -> int | None:
        """The next signal that ends the process; None where there is none in time. Python tells of all for which there is a handler."""
        until = time.monotonic() + seconds
        while select.select([self._reader], [], [], None if seconds == math.inf else max(until - time.monotonic(), 0))[0]:
            (number,) = os.read(self._reader, 1)
            if number in SIGNALS:
                return number
        return None

    def _last_words(self, number: int) -> None:
        with contextlib.suppress(Exception, SystemExit):  # as for `_flush`
            self.say(f"stopped by {signal.Signals(number).name}")
        _flush()

    def _forget(self) -> None:
        """A child that was forked dies of signals alone, not with its parent, to which the pipe belongs."""
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) == self.handle:
                signal.signal(number, signal.SIG_DFL)


@functools.cache
def _watch() -> _Watch:
    return _Watch()
