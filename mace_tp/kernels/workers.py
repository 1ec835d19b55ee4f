"""Threads that wait for compilers, so that these run beside this process; at most one compiler for each processor."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from mace_tp.kernels.compiler import end_compilers
from mace_tp.runtime.environment import num_threads

_pool: ContextVar[concurrent.futures.ThreadPoolExecutor | None] = ContextVar("pool", default=None)


@contextlib.contextmanager
def workers() -> Iterator[None]:
    """Within this context `begin` starts work at once. After an exception, such as an interrupt, no compiler is left running."""
    if _pool.get() is not None:
        yield
        return
    pool = concurrent.futures.ThreadPoolExecutor(num_threads(), thread_name_prefix="mace_tp_compiler")
    token = _pool.set(pool)
    try:
        yield
    except BaseException:  # an interrupt, too, must not leave compilers running
        pool.shutdown(wait=False, cancel_futures=True)
        end_compilers()
        raise
    finally:
        _pool.reset(token)
        pool.shutdown()


def begin(work: Callable[[], None]) -> concurrent.futures.Future[None] | None:
    """Run a function that waits for a compiler in another thread; return None if there are no workers.

    The function must not use jax.
    """
    pool = _pool.get()
    return None if pool is None else pool.submit(work)
