"""Functions that run before the process ends at once, for example after a signal."""

import contextlib
import os
from collections.abc import Callable
from typing import NoReturn

_acts: list[Callable[[], None]] = []


def before_leaving(act: Callable[[], None]) -> Callable[[], None]:
    """Have `leave` call a function first; in whatever thread, and not for long."""
    _acts.append(act)
    return act


def leave(code: int) -> NoReturn:
    """End the process without the interpreter's own end, which would wait for threads that compile."""
    for act in _acts:
        with contextlib.suppress(Exception):
            act()
    os._exit(code)
