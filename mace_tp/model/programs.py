"""Programs compiled ahead of time: functions of (state, batch, ...), such as the prediction of a model."""

import contextlib
import ctypes
import gc
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mace_tp.graph import GraphBatch, displaced, edge_vectors
from mace_tp.kernels.build import made_beside, num_failed, parts_are_there, programs_are_there
from mace_tp.kernels.flops import kernel_flops
from mace_tp.model.parameters import Params
from mace_tp.model.prediction import Prediction
from mace_tp.runtime.compilation import compiling
from mace_tp.runtime.forked import refuse_fork

Predict = Callable[[Params, GraphBatch], Prediction]


class CompiledStep:
    """A function of (state, batch, ...) that is compiled ahead of time, once for each shape of the batch.

    Unlike `jax.jit` it counts its compilations, and measures how long they took.
    """

    def __init__(self, function: Callable, what: str, donate_state: bool = False) -> None:
        """
        Args:
            function: to be compiled.
            what: its name in messages, with an article.
            donate_state: whether a call consumes the state that it is given.
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
        """The compiled programs, one for each shape."""
        return list(self._compiled.values())

    def flops(self) -> float:
        """Floating-point operations of the largest shape so far, XLA's count plus that of the compiled kernel; zero before the first."""
        costs = {shape: compiled.cost_analysis() or {} for shape, compiled in self._compiled.items()}
        return max((float(cost.get("flops", 0.0)) + self._kernel_flops[shape] for shape, cost in costs.items()), default=0.0)

    def __call__(self, state: Any, batch: GraphBatch, *rest: Any) -> Any:
        return self.compile(state, batch, *rest)(state, batch, *rest)

    def compile(self, state: Any, batch: GraphBatch, *rest: Any) -> jax.stages.Compiled:
        """Compile the program for the shape of this batch, or return it if there is one; nothing is run.

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
        """Trace and compile while the kernel's compilers run beside. Where one of those fails, the next trace leaves its kernel out."""
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
                jax.clear_caches()  # otherwise jax reuses the trace


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Tracing makes many objects that stay alive; searching them for garbage would take a quarter of the time of tracing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _release_freed_memory() -> None:
    """Return the memory that glibc holds free to the system.

    The first buffers of a step do not fit into the gaps that a compilation leaves, so without this they would add to the peak memory.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def make_predict(graphdef: nnx.GraphDef) -> Predict:
    """Pure function (parameters, batch) → prediction of a `MACE`."""

    def predict_batch(params: Params, batch: GraphBatch) -> Prediction:
        return nnx.merge(graphdef, params).predict(batch)

    return predict_batch


def make_hessian_product(graphdef: nnx.GraphDef) -> Callable[[Params, GraphBatch, jax.Array], jax.Array]:
    """Pure function (parameters, batch, v [nodes, 3]) → H v [nodes, 3], eV/Å², with H the second derivative of the energy of a `MACE`.

    Reverse over reverse, because forward mode is not defined.
    """

    def product(params: Params, batch: GraphBatch, vector: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, params)

        def energy(displacements: jax.Array) -> jax.Array:
            return jnp.sum(model(edge_vectors(displaced(batch, displacements), model.architecture.cutoff), batch))

        _, pullback = jax.vjp(jax.grad(energy), jnp.zeros_like(vector))
        return pullback(vector)[0]

    return product
