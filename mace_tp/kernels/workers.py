"""Compilers at work beside this process: no more of them at a time than there are processors."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from mace_tp.kernels.compiler import end_compilers
from mace_tp.runtime.environment import num_threads

_pool: ContextVar[concurrent.futures.ThreadPoolExecutor | None] = ContextVar("pool", default=None)


@contextlib.contextmanager
def workers() -> Iterator[None]:
    """Within it `begin` begins at once. After an exception, such as an interrupt, no compiler is left at work."""
    if _pool.get() is not None:
        yield
        return
    pool = concurrent.futures.ThreadPoolExecutor(num_threads(), thread_name_prefix="mace_tp_compiler")
    token = _pool.set(pool)
    try:
        yield
    except BaseException:  # interrupts, too, must not leave compilers at work
        pool.shutdown(wait=False, cancel_futures=True)
        end_compilers()
        raise
    finally:
        _pool.reset(token)
        pool.shutdown()


def begin(work: Callable[[], None]) -> concurrent.futures.Future[None] | None:
    """Have work that waits for a compiler done in another thread, which is not to use jax; None where there are no workers."""
    pool = _pool.get()
    return None if pool is None else pool.submit(work)
