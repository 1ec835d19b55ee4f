"""What the machine can do at best: a matrix product and a copy, measured in the same run."""

import dataclasses

import jax
import jax.numpy as jnp

from mace_tp.benchmark.timing import time_in_turn

_SIDE = 1024  # of the matrices
_COPIED = 32 * 2**20  # numbers; beyond every cache
_REPEATS = 10


@dataclasses.dataclass(frozen=True)
class Machine:
    """Peaks of a roofline (Williams et al. 2009)."""

    flops_per_second: float  # of a matrix product
    bytes_per_second: float  # read and written by a copy

    def roof(self, intensity: float) -> float:
        """The most operations per second at `intensity` operations per byte."""
        return min(self.flops_per_second, intensity * self.bytes_per_second)

    def best(self, other: "Machine") -> "Machine":
        """The higher of two measurements: noise only takes away."""
        return Machine(max(self.flops_per_second, other.flops_per_second), max(self.bytes_per_second, other.bytes_per_second))


def measure_machine(dtype: jnp.dtype) -> Machine:
    """The fastest of ten matrix products and of ten passes that read and write 32 Mi numbers in place."""
    matrix = jnp.ones((_SIDE, _SIDE), dtype)
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    copy = jax.jit(lambda x: -x, donate_argnums=0).lower(jnp.ones(_COPIED, dtype)).compile()
    held = [jnp.ones(_COPIED, dtype)]

    def in_place() -> jax.Array:
        held.append(copy(held.pop()))
        return held[0]

    seconds = time_in_turn({"product": lambda: product(matrix, matrix), "copy": in_place}, _REPEATS)
    return Machine(2 * _SIDE**3 / seconds["product"].min(), 2 * _COPIED * jnp.dtype(dtype).itemsize / seconds["copy"].min())
