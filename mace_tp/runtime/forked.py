"""Refuses to compute in a process that was forked after jax was in use; it would wait forever.

jax computes in threads. A forked process has copies of their locks but none of the threads.
"""

import os
import sys

from mace_tp.errors import InputError

_first_user: int | None = None  # id of the process that forked (itself or an ancestor) while jax was in use


def refuse_fork() -> None:
    """Raise an InputError if this process was forked after jax was in use."""
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


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before_fork)
