"""Programs of a model that are compiled ahead of time: predictions, and whatever else maps parameters and a batch."""

import contextlib
import ctypes
import gc
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx

from mace_tp.graph import GraphBatch
from mace_tp.kernels.build import made_beside, num_failed, parts_are_there, programs_are_there
from mace_tp.kernels.flops import kernel_flops
from mace_tp.model.parameters import Params
from mace_tp.model.prediction import Prediction
from mace_tp.runtime.compilation import compiling
from mace_tp.runtime.forked import refuse_fork

Predict = Callable[[Params, GraphBatch], Prediction]


class CompiledStep:
    """A jitted function of (state, batch, ...) that is compiled ahead of time, once for each shape of the batch.

    It knows what `jax.jit` does not tell: how many compilations there were and how long they took.
    """

    def __init__(self, function: Callable, what: str, donate_state: bool = False) -> None:
        """
        Args:
            function: what to compile.
            what: its name for messages, with an article.
            donate_state: the state that a call is given is consumed.
        """
        self._what = what
        self._jitted = jax.jit(function, donate_argnums=0 if donate_state else ())
        self._compiled: dict[tuple[int, ...], jax.stages.Compiled] = {}
        self._kernel_flops: dict[tuple[int, ...], int] = {}
        self.compile_seconds = 0.0

    @property
    def num_compilations(self) -> int:
        return len(self._compiled)

    def programs(self) -> list[jax.stages.Compiled]:
        """One for each shape."""
        return list(self._compiled.values())

    def flops(self) -> float:
        """Floating-point operations as XLA counts them and those of the compiled kernel, of the largest shape so far; zero before that."""
        costs = {shape: compiled.cost_analysis() or {} for shape, compiled in self._compiled.items()}
        return max((float(cost.get("flops", 0.0)) + self._kernel_flops[shape] for shape, cost in costs.items()), default=0.0)

    def __call__(self, state: Any, batch: GraphBatch, *rest: Any) -> Any:
        return self.compile(state, batch, *rest)(state, batch, *rest)

    def compile(self, state: Any, batch: GraphBatch, *rest: Any) -> jax.stages.Compiled:
        """The program for the shape of this batch; nothing is run.

        Raises:
            InputError: this process was forked after jax was used.
        """
        refuse_fork()
        shape = (batch.num_nodes, batch.num_edges, batch.num_pairs, batch.num_graphs)
        if shape not in self._compiled:
            start = time.monotonic()
            with compiling(f"{self._what} for up to {batch.num_nodes - 1} atoms and {batch.num_edges} edges"):
                traced, self._compiled[shape] = self._traced_and_compiled(state, batch, *rest)
                self._kernel_flops[shape] = kernel_flops(traced.jaxpr.jaxpr)
                _release_freed_memory()
            self.compile_seconds += time.monotonic() - start
        return self._compiled[shape]

    def _traced_and_compiled(self, *arguments: Any) -> tuple[jax.stages.Traced, jax.stages.Compiled]:
        """Compilers of the kernel are at work meanwhile. Where one fails, the next trace does without what it was to make."""
        with made_beside():
            while True:
                failed = num_failed()
                with _no_garbage_collection():
                    traced = self._jitted.trace(*arguments)
                    lowered = traced.lower()
                if programs_are_there(failed):
                    compiled = lowered.compile()
                    if parts_are_there(failed):
                        return traced, compiled
                jax.clear_caches()  # or jax would remember the trace


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Tracing makes many objects that stay; looking through them for garbage meanwhile takes a quarter of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _release_freed_memory() -> None:
    """Give back to the system what glibc holds free: a step's first buffers do not fit into what a compilation leaves and come on top."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def make_predict(graphdef: nnx.GraphDef, cutoff: float) -> Predict:
    """Pure function (parameters, batch) → prediction of a `MACE`, by its strategy for the forces."""

    def predict_batch(params: Params, batch: GraphBatch) -> Prediction:
        model = nnx.merge(graphdef, params)
        return model.forces(model, batch, cutoff)

    return predict_batch
