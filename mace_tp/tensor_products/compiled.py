"""Tensor products whose sites the compiled kernel evaluates: on a CPU, and if they are sparse polynomials."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.graph import GraphBatch
from mace_tp.kernels.build import DTYPES, begin_kernel, function_name, kernel_version, target_name, tell_once
from mace_tp.kernels.compiler import NoKernel
from mace_tp.kernels.evaluate import Problem, evaluate
from mace_tp.kernels.linear import ChannelMap, Species, linear, linear_plainly
from mace_tp.kernels.polynomial import Polynomial
from mace_tp.kernels.workers import workers
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan, ProductBasisPlan, WeightedPolynomial

KERNELS = ("auto", "xla")


@dataclasses.dataclass(frozen=True)
class Compiled(TensorProduct):
    """The same product of the same weights. The kernel evaluates the sites that are sparse polynomials; other sites stay as they are."""

    product: TensorProduct

    @property
    def name(self) -> str:
        return self.product.name

    def packages(self) -> tuple[str, ...]:
        return self.product.packages()

    def require_packages(self) -> None:
        self.product.require_packages()

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        compiled = CompiledInteraction(self.product.interaction(irreps_node, irreps_edge, irreps_keep))
        return compiled.plan if compiled.polynomial() is None else compiled

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        compiled = CompiledProductBasis(self.product.product_basis(irreps_in, irreps_out, correlation))
        return compiled.plan if compiled.polynomial() is None else compiled

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BilinearPlan:
        return self.product.bilinear(irreps_1, irreps_2, irreps_keep)


@dataclasses.dataclass(frozen=True)
class CompiledInteraction(InteractionPlan):
    """An interaction by the kernel: edge by edge, without padded edges, and without a copy of the pairs' weights for every edge."""

    plan: InteractionPlan

    @property
    def irreps_node(self) -> e3nn.Irreps:
        return self.plan.irreps_node

    @property
    def irreps_edge(self) -> e3nn.Irreps:
        return self.plan.irreps_edge

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return self.plan.irreps_out

    @property
    def num_weights(self) -> int:
        return self.plan.num_weights

    @functools.cached_property
    def _polynomial(self) -> Polynomial | None:
        return self.plan.polynomial()

    def polynomial(self) -> Polynomial | None:
        return self._polynomial

    def __call__(self, weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array, batch: GraphBatch) -> jax.Array:
        polynomial = self._polynomial
        if polynomial is None or not kernel_runs(polynomial, node_feats.dtype, node_feats.shape[2]):
            return self.plan(weights, node_feats, edge_attrs, batch)
        operands = _of_one_dtype(weights, node_feats, edge_attrs)
        indices = tuple(jnp.asarray(index, jnp.int32) for index in (batch.edge_pair, batch.senders, batch.receivers))
        return evaluate(Problem(polynomial, (node_feats.shape[1],)), operands, indices, batch.edge_mask)[0]

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        return self.plan.coefficients(weights)


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
    def weight_scales(self) -> tuple[float, ...]:
        return self.plan.weight_scales

    @functools.cached_property
    def _form(self) -> WeightedPolynomial | None:
        return self.plan.polynomial()

    def polynomial(self) -> WeightedPolynomial | None:
        return self._form

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        form = self._form
        if form is None or not kernel_runs(form.polynomial, node_feats.dtype, node_feats.shape[2]):
            return self.plan(weights, node_feats, species)
        operands = _of_one_dtype(form.weights(jnp.asarray(weights)), node_feats)
        problem = Problem(form.polynomial, (node_feats.shape[1],))
        return evaluate(problem, operands, (jnp.asarray(species, jnp.int32),), None)[0]

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        return self.plan.coefficients(weights)


def _of_one_dtype(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    dtype = jnp.result_type(*arrays)
    return tuple(jnp.asarray(array, dtype) for array in arrays)


def mix(channel_map: ChannelMap, features: jax.Array, matrices: tuple[jax.Array, ...], species: Species) -> jax.Array:
    """`linear` by the kernel if it can, otherwise by jax."""
    dtype = jnp.result_type(features, *matrices)
    features, matrices = features.astype(dtype), tuple(matrix.astype(dtype) for matrix in matrices)
    if not _is_possible(dtype, lambda name: target_name("linear", name)):
        return linear_plainly(channel_map, features, matrices, species)
    return linear(channel_map, features, matrices, jnp.asarray(species, jnp.int32))


def kernel_runs(polynomial: Polynomial, dtype: jnp.dtype, channels: int) -> bool:
    """Whether the kernel can evaluate the polynomial on jax's default device; logs the first reason why it cannot."""
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
    """Compile the kernel in the background within this context; the first evaluation waits for it. Arguments as for `describe_kernel`."""
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
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue] - jax declares it at run time
    return (device.platform if isinstance(device, jax.Device) else jax.default_backend()) == "cpu"
