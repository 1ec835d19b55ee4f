"""Refuses to compute in a process that was forked from one in which jax was in use, where it would wait for ever.

jax computes in threads, and a forked process has a copy of their locks but none of the threads.
"""

import os
import sys

from mace_tp.errors import InputError

_first_user: int | None = None  # the process in which jax was first in use when it, or one that came of it, was forked


def refuse_fork() -> None:
    """Raise an InputError in a forked process in which jax cannot compute."""
    if _first_user not in (None, os.getpid()):
        raise InputError(
            "jax was in use before this process was forked, and cannot compute in it; "
            "start processes with spawn: multiprocessing.get_context('spawn').Pool(...)"
        )


def _before_fork() -> None:
    global _first_user
    bridge = sys.modules.get("jax._src.xla_bridge")
    if _first_user is None and bridge is not None and bridge.backends_are_initialized():
        _first_user = os.getpid()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(before=_before_fork)
