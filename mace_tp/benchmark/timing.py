"""Timings of several programs side by side, in turn, so that a machine whose speed drifts favors none."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mace_tp.kernels.flops import kernel_flops

# Calls before the first that counts: the first finds cold caches, and memory that the allocator has not seen.
_WARM_UP = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """A program, ready to be timed, and what XLA says of it."""

    call: Callable[[], Any]
    compile_seconds: float  # tracing and lowering included
    flops: float  # XLA's count, and that of the compiled kernel
    bytes: float  # XLA's count of what all instructions access
    moved: int  # bytes of arguments and outputs: the least that is read and written
    memory: int  # bytes of those and of temporary arrays


def compile_program(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Compiled:
    """Compile for these arguments; the persistent cache must be off, or the time is not one of compilation."""
    start = time.perf_counter()
    traced = jax.jit(function).trace(*arguments)
    program = traced.lower().compile()
    seconds = time.perf_counter() - start
    costs, memory = program.cost_analysis(), program.memory_analysis()
    moved = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Compiled(
        call=lambda: program(*arguments),
        compile_seconds=seconds,
        # XLA counts -1 operations for a call that it does not know.
        flops=float(np.maximum(0.0, costs.get("flops", np.nan))) + kernel_flops(traced.jaxpr.jaxpr),
        bytes=float(costs.get("bytes accessed", np.nan)),
        moved=moved,
        memory=moved + memory.temp_size_in_bytes,
    )


def time_in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of every call, to the end of its computation: A B C A B C ..., after two rounds that do not count.

    Returns:
        For each name [repeats].
    """
    seconds = {name: np.zeros(_WARM_UP + repeats) for name in calls}
    for i in range(_WARM_UP + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name][i] = time.perf_counter() - start
    return {name: values[_WARM_UP:] for name, values in seconds.items()}
