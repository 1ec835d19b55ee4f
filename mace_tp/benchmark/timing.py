"""Times several programs in turn, so that a machine whose speed drifts favors none of them."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mace_tp.kernels.flops import kernel_flops

# Calls before the first one that counts: in these the caches are cold and the allocator needs new memory.
_WARM_UP = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled program and XLA's figures about it."""

    call: Callable[[], Any]
    compile_seconds: float  # includes tracing and lowering
    flops: float  # XLA's count plus that of the compiled kernel
    kernel_flops: int  # of the compiled kernel alone
    bytes: float  # accessed by all instructions, as XLA counts
    moved: int  # bytes of arguments and outputs, which are read and written at least once
    memory: int  # bytes of arguments, outputs and temporary arrays


def compile_program(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Compiled:
    """Compile a function for these arguments. jax's persistent cache must be off, otherwise `compile_seconds` may be the time of a load."""
    start = time.perf_counter()
    traced = jax.jit(function).trace(*arguments)
    program = traced.lower().compile()
    seconds = time.perf_counter() - start
    costs, memory = program.cost_analysis() or {}, program.memory_analysis()
    if memory is None:
        raise RuntimeError("jax does not report the memory of programs on this device")
    of_kernel = kernel_flops(traced.jaxpr.jaxpr)
    moved = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Compiled(
        call=lambda: program(*arguments),
        compile_seconds=seconds,
        # XLA counts -1 operations for a call that it does not know, such as the kernel.
        flops=float(np.maximum(0.0, costs.get("flops", np.nan))) + of_kernel,
        kernel_flops=of_kernel,
        bytes=float(costs.get("bytes accessed", np.nan)),
        moved=moved,
        memory=moved + memory.temp_size_in_bytes,
    )


def time_in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Time every call until its result is ready, in the order A B C A B C ..., after two rounds that do not count.

    Returns:
        Seconds for each name [repeats].
    """
    seconds = {name: np.zeros(_WARM_UP + repeats) for name in calls}
    for i in range(_WARM_UP + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name][i] = time.perf_counter() - start
    return {name: values[_WARM_UP:] for name, values in seconds.items()}
