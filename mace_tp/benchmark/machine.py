"""Measures the peak performance of the machine: matrix products, and the bandwidth for arrays of several sizes."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.benchmark.timing import time_in_turn
from mace_tp.runtime.environment import num_threads

_SIDES = {"cpu": (256, 512, 1024)}  # of the matrices
_LARGE_SIDES = (2048, 4096, 8192)  # on a GPU
# Bytes of the arrays that a pass reads and writes: the smallest stay in the caches of the cores, the largest fit into no cache.
_SIZES = tuple(2**power for power in range(18, 29, 2))
_PASSED = 2**26  # bytes per measurement; a small array is passed over several times
_REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Machine:
    """Peaks of a roofline (Williams et al. 2009)."""

    flops_per_second: float  # of a matrix product
    bandwidths: tuple[tuple[int, float], ...]  # (bytes of the array, bytes read and written per second)

    def bandwidth(self, working_set: int) -> float:
        """Return the most bytes per second for a program that works on `working_set` bytes.

        That is the largest bandwidth of all measured arrays of this size (rounded down) or more, because smaller ones are never slower.
        """
        below = max((size for size, _ in self.bandwidths if size <= working_set), default=0)
        return max(bandwidth for size, bandwidth in self.bandwidths if size >= below)

    def roof(self, intensity: float, working_set: int) -> float:
        """Return the most operations per second at `intensity` operations per byte, for a program that works on `working_set` bytes."""
        return min(self.flops_per_second, intensity * self.bandwidth(working_set))

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of the smallest array, which is in the caches, and of the largest array, which is not."""
        return self.bandwidths[0][0], self.bandwidths[-1][0]

    def best(self, other: "Machine") -> "Machine":
        """Return the higher values of two measurements, because noise only lowers them."""
        pairs = zip(self.bandwidths, other.bandwidths, strict=True)
        bandwidths = tuple((size, max(mine, theirs)) for (size, mine), (_, theirs) in pairs)
        return Machine(max(self.flops_per_second, other.flops_per_second), bandwidths)


def measure_machine(dtype: jnp.dtype) -> Machine:
    """Time matrix products, and passes in place over arrays of each size, on the default device; the fastest counts."""
    platform = jnp.zeros(()).devices().pop().platform
    in_place = _by_numpy if platform == "cpu" else _by_jax
    bandwidths = tuple((size, in_place(size, dtype)) for size in _SIZES)
    return Machine(max(_matrix_product(side, dtype) for side in _SIDES.get(platform, _LARGE_SIDES)), bandwidths)


def _matrix_product(side: int, dtype: jnp.dtype) -> float:
    """Return operations per second."""
    matrix = jnp.ones((side, side), dtype)
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    return 2 * side**3 / time_in_turn({"product": lambda: product(matrix, matrix)}, _REPEATS)["product"].min()


def _by_numpy(size: int, dtype: jnp.dtype) -> float:
    """Return bytes per second of all cores together. numpy, because a loop of XLA costs more than a pass over a small array."""
    cores = num_threads()
    parts = [np.ones(size // jnp.dtype(dtype).itemsize // cores, dtype) for _ in range(cores)]
    num_passes = max(1, _PASSED // size)

    def pass_over(part: np.ndarray) -> None:
        for _ in range(num_passes):
            np.negative(part, out=part)

    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        return 2 * num_passes * size / _least_seconds(lambda: list(pool.map(pass_over, parts)))


def _by_jax(size: int, dtype: jnp.dtype) -> float:
    """Return bytes per second of the device."""
    num_passes = max(1, _PASSED // size)
    passes = jax.jit(lambda x: jax.lax.fori_loop(0, num_passes, lambda _, x: -x, x), donate_argnums=0)
    held = [jnp.ones(size // jnp.dtype(dtype).itemsize, dtype)]

    def run() -> None:
        held.append(jax.block_until_ready(passes(held.pop())))

    return 2 * num_passes * size / _least_seconds(run)


def _least_seconds(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(1 + _REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
