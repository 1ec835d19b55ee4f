"""Ends the process at once, for example after a signal; registered functions run first."""

import contextlib
import os
from collections.abc import Callable
from typing import NoReturn

_acts: list[Callable[[], None]] = []


def before_leaving(act: Callable[[], None]) -> Callable[[], None]:
    """Register a function that `leave` calls before the process ends. It must be quick and may run in any thread."""
    _acts.append(act)
    return act


def leave(code: int) -> NoReturn:
    """End the process without Python's normal shutdown, which would wait for threads that compile."""
    for act in _acts:
        with contextlib.suppress(Exception):
            act()
    os._exit(code)
