"""Logs every compilation, shows that it is going on, and counts the seconds of all of them."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar

import jax

# A separate logger, because commands without a log print its lines only.
LOGGER = logging.getLogger("mace_tp.runtime.compilation")

Display = Callable[[], AbstractContextManager[object]]
"""Shows that a compilation is going on, as long as its context is open."""


@dataclasses.dataclass
class CompileClock:
    """Seconds that compilations have taken."""

    seconds: float = 0.0


class Stopwatch:
    """Seconds since it was created, without those of compilations."""

    def __init__(self, compilations: CompileClock, before: float = 0.0) -> None:
        """
        Args:
            compilations: clock of the compilations to leave out.
            before: seconds to start from.
        """
        self._compilations = compilations
        self._start = self._now() - before

    def seconds(self) -> float:
        return self._now() - self._start

    def _now(self) -> float:
        return time.monotonic() - self._compilations.seconds


_clocks: ContextVar[tuple[CompileClock, ...]] = ContextVar("clocks", default=())
_display: ContextVar[Display] = ContextVar("display", default=contextlib.nullcontext)
_is_compiling: ContextVar[bool] = ContextVar("is_compiling", default=False)


@contextlib.contextmanager
def counted_compilations() -> Iterator[CompileClock]:
    """Yield a clock of all compilations in this context."""
    clock = CompileClock()
    token = _clocks.set((*_clocks.get(), clock))
    try:
        yield clock
    finally:
        _clocks.reset(token)


@contextlib.contextmanager
def shown_compilations(display: Display) -> Iterator[None]:
    """Replace the display that shows compilations, within this context."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


@contextlib.contextmanager
def compiling(what: str, *, is_kept: bool | None = None) -> Iterator[None]:
    """Log a compilation, show that it is going on, and count its time. A compilation within another one is not counted again.

    Args:
        what: such as "the training step".
        is_kept: whether later runs find the program in a cache; None: if jax's compilation cache is on.
    """
    if _is_compiling.get():
        yield
        return
    announce(what, _has_xla_cache() if is_kept is None else is_kept)
    with waiting():
        yield


def announce(what: str, is_kept: bool) -> None:
    """Log that a compilation starts, unless it is part of another one."""
    if not _is_compiling.get():
        LOGGER.info("compiling %s%s", what, "; later runs find it in the cache" if is_kept else "")


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Show that a compilation is going on, and count the time until this context ends."""
    if _is_compiling.get():
        yield
        return
    token, start = _is_compiling.set(True), time.monotonic()
    try:
        with _display.get()():
            yield
    finally:
        _is_compiling.reset(token)
        _count(time.monotonic() - start)


def _count(seconds: float) -> None:
    for clock in _clocks.get():
        clock.seconds += seconds


def _count_event(event: str, duration_secs: float, **_: str | int) -> None:
    """Count the many small programs that jax compiles on its own, for example to add two arrays."""
    if event.startswith("/jax/core/compile/") and not _is_compiling.get():
        _count(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_count_event)


def _has_xla_cache() -> bool:
    return bool(jax.config.values["jax_enable_compilation_cache"] and jax.config.values["jax_compilation_cache_dir"])
