"""Tensor products whose sites are evaluated by the compiled kernel, where they are sparse polynomials and a CPU is what computes."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.graph import GraphBatch
from mace_tp.kernels.build import DTYPES, begin_kernel, function_name, kernel_version, target_name, tell_once
from mace_tp.kernels.compiler import NoKernel
from mace_tp.kernels.evaluate import Problem, evaluate
from mace_tp.kernels.linear import ChannelMap, linear, linear_plainly
from mace_tp.kernels.polynomial import Polynomial
from mace_tp.kernels.workers import workers
from mace_tp.tensor_products.base import BinaryPlan, InteractionPlan, Path, ProductBasisPlan, TensorProduct

KERNELS = ("auto", "xla")


@dataclasses.dataclass(frozen=True)
class Compiled(TensorProduct):
    """Another form of the same product, with the same weights: it computes with the kernel what that can, and the rest as before."""

    product: TensorProduct

    def packages(self) -> tuple[str, ...]:
        return self.product.packages()

    def require_packages(self) -> None:
        self.product.require_packages()

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        plan = self.product.interaction(irreps_node, irreps_edge, irreps_keep)
        compiled = CompiledInteraction(plan)
        return plan if compiled.polynomial() is None else compiled

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        plan = self.product.product_basis(irreps_in, irreps_out, correlation)
        compiled = CompiledProductBasis(plan)
        return plan if compiled.polynomial() is None else compiled

    def binary(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BinaryPlan:
        return self.product.binary(irreps_1, irreps_2, irreps_keep)


@dataclasses.dataclass(frozen=True)
class CompiledInteraction(InteractionPlan):
    """An interaction by the kernel: edge by edge, with the weights of pairs where they lie, and without padded edges."""

    plan: InteractionPlan

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return self.plan.irreps_out

    @property
    def irreps_node(self) -> e3nn.Irreps:
        return self.plan.irreps_node

    @property
    def num_weights(self) -> int:
        return self.plan.num_weights

    @functools.cached_property
    def _polynomial(self) -> Polynomial | None:
        return self.plan.polynomial()

    def polynomial(self) -> Polynomial | None:
        return self._polynomial

    def __call__(
        self,
        weights: Sequence[jax.Array] | jax.Array,
        node_feats: jax.Array,
        edge_attrs: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        if not kernel_runs(self._polynomial, node_feats.dtype, node_feats.shape[2]):
            return self.plan(weights, node_feats, edge_attrs, senders, receivers)
        edges = jnp.arange(len(senders), dtype=jnp.int32)
        return self._evaluate(jnp.stack(list(weights), axis=1), node_feats, edge_attrs, (edges, senders, receivers), None)

    def of_pairs(self, pair_weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array, batch: GraphBatch) -> jax.Array:
        if not kernel_runs(self._polynomial, node_feats.dtype, node_feats.shape[2]):
            return self.plan.of_pairs(pair_weights, node_feats, edge_attrs, batch)
        indices = batch.edge_pair, batch.senders, batch.receivers
        return self._evaluate(pair_weights, node_feats, edge_attrs, indices, batch.edge_mask)

    def _evaluate(
        self, weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array, indices: tuple[jax.Array, ...], mask: jax.Array | None
    ) -> jax.Array:
        operands = _of_one_dtype(weights, node_feats, edge_attrs)
        indices = tuple(jnp.asarray(index, jnp.int32) for index in indices)
        return evaluate(Problem(self._polynomial, (node_feats.shape[1],)), operands, indices, mask)[0]

    def paths(self) -> tuple[Path, ...]:
        return self.plan.paths()

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        return self.plan.coefficients(weights)

    def flops(self, num_edges: int, num_nodes: int, channels: int) -> int:
        return num_edges * channels * self._polynomial.flops()

    def bytes(self, num_edges: int, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        # Every edge reads its sender's features; products stay in registers, and the sums of a receiver in the cache.
        per_edge = (self.num_weights + self.irreps_node.dim) * channels + sum(o.size for o in self._polynomial.inputs if o.is_scalar) + 3
        return itemsize * (num_edges * per_edge + num_nodes * channels * self.irreps_out.dim)


@dataclasses.dataclass(frozen=True)
class CompiledProductBasis(ProductBasisPlan):
    """A product basis by the kernel, node by node."""

    plan: ProductBasisPlan

    @property
    def irreps_in(self) -> e3nn.Irreps:
        return self.plan.irreps_in

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return self.plan.irreps_out

    @property
    def correlation(self) -> int:
        return self.plan.correlation

    @property
    def num_weights(self) -> int:
        return self.plan.num_weights

    @property
    def weight_scales(self) -> tuple[float, ...]:
        return self.plan.weight_scales

    @functools.cached_property
    def _polynomial(self) -> Polynomial | None:
        return self.plan.polynomial()

    def polynomial(self) -> Polynomial | None:
        return self._polynomial

    def polynomial_weights(self, weights: jax.Array) -> jax.Array:
        return self.plan.polynomial_weights(weights)

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        if not kernel_runs(self._polynomial, node_feats.dtype, node_feats.shape[2]):
            return self.plan(weights, node_feats, species)
        operands = _of_one_dtype(self.plan.polynomial_weights(jnp.asarray(weights)), node_feats)
        problem = Problem(self._polynomial, (node_feats.shape[1],))
        return evaluate(problem, operands, (jnp.asarray(species, jnp.int32),), None)[0]

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        return self.plan.coefficients(weights)

    def reached(self) -> Sequence[e3nn.Irrep]:
        return self.plan.reached()

    def flops(self, num_nodes: int, channels: int) -> int:
        return num_nodes * channels * self._polynomial.flops()

    def bytes(self, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        return itemsize * num_nodes * channels * (self.irreps_in.dim + self.num_weights + self.irreps_out.dim)


def _of_one_dtype(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    dtype = jnp.result_type(*arrays)
    return tuple(jnp.asarray(array, dtype) for array in arrays)


def mix(channel_map: ChannelMap, features: jax.Array, matrices: tuple[jax.Array, ...], species: jax.Array) -> jax.Array:
    """`linear` by the kernel where that can be, by jax elsewhere."""
    dtype = jnp.result_type(features, *matrices)
    features, matrices = features.astype(dtype), tuple(matrix.astype(dtype) for matrix in matrices)
    if not _is_possible(dtype, lambda name: target_name("linear", name)):
        return linear_plainly(channel_map, features, matrices, species)
    return linear(channel_map, features, matrices, jnp.asarray(species, jnp.int32))


def kernel_runs(polynomial: Polynomial, dtype: jnp.dtype, channels: int) -> bool:
    """Whether the kernel can evaluate this here, on what jax computes with by default; the first reason why it cannot is logged."""
    return _is_possible(jnp.dtype(dtype), lambda name: function_name(polynomial, name, channels))


def _is_possible(dtype: jnp.dtype, build: Callable[[str], object]) -> bool:
    if not _is_cpu() or dtype.name not in DTYPES:
        return False
    try:
        build(dtype.name)
    except NoKernel as error:
        tell_once(str(error))
        return False
    return True


@contextlib.contextmanager
def kernel_beside(kernel: str, dtype: str) -> Iterator[None]:
    """Compile the kernel in the background of this context; the first evaluation waits for it. Arguments as for `describe_kernel`."""
    with workers():
        if kernel != "xla" and _is_cpu() and dtype in DTYPES:
            begin_kernel(dtype)
        yield


def describe_kernel(kernel: str, dtype: str = "float32") -> str:
    """Name the form in which this machine evaluates sparse polynomials, and the reason, for a log.

    Args:
        kernel: one of KERNELS.
        dtype: of the numbers.
    """
    if kernel == "xla" or not _is_cpu():
        return "xla"
    try:
        return f"compiled for {kernel_version(dtype)}, which is faster than XLA's form of every tensor product (docs/speed.md)"
    except NoKernel as error:
        return f"xla, which is slower: {error}"


def _is_cpu() -> bool:
    device = jax.config.jax_default_device
    return (device.platform if isinstance(device, jax.Device) else jax.default_backend()) == "cpu"
