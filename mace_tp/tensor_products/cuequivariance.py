"""The same function as `cg`, of the same weights, as segmented polynomials of NVIDIA's cuEquivariance.

A segmented polynomial is a sum of terms; a term is a coefficient times one segment of each operand. Here a segment is one component
with all its channels, which are the single uniform mode u that the kernels of `method="uniform_1d"` take. A kernel gathers, multiplies
and scatters without intermediate arrays. Without a GPU the library's `method="naive"` computes the same, slowly.

Source: https://docs.nvidia.com/cuda/cuequivariance (version 0.13).
"""

import dataclasses
import functools
import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from mace_tp.errors import InputError
from mace_tp.graph import GraphBatch
from mace_tp.kernels.polynomial import Builder
from mace_tp.tensor_products.algebra.irreps import rows_of
from mace_tp.tensor_products.algebra.paths import path_coupling
from mace_tp.tensor_products.algebra.symmetric_basis import symmetric_basis
from mace_tp.tensor_products.base import TensorProduct, require_reached
from mace_tp.tensor_products.cg import CGInteraction, CGProductBasis
from mace_tp.tensor_products.plans import BilinearPlan

_INSTEAD = "tensor_product=cg is the same function of the same weights"


@dataclasses.dataclass(frozen=True)
class Cuequivariance(TensorProduct):
    """Clebsch-Gordan through cuEquivariance; raises InputError if the package, or on a GPU its kernels, are not installed."""

    name: ClassVar[str] = "cuequivariance"

    def packages(self) -> tuple[str, ...]:
        kernels = [f"cuequivariance-ops-{kind}" for kind in ("cu12", "cu13", "jax-cu12", "jax-cu13")]
        return "cuequivariance", "cuequivariance-jax", *kernels

    def require_packages(self) -> None:
        _library()

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> CGInteraction:
        _library()
        return CuequivarianceInteraction(irreps_node, irreps_edge, irreps_keep)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> CGProductBasis:
        _library()
        plan = CuequivarianceProductBasis(irreps_in, irreps_out, correlation)
        require_reached(self.name, plan, plan.reached)
        return plan

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BilinearPlan:
        plan = super().bilinear(irreps_1, irreps_2, irreps_keep)
        return CuequivarianceBilinear(plan.irreps_1, plan.irreps_2, plan.irreps_out, plan.rows)


@dataclasses.dataclass(frozen=True, eq=False)
class Terms:
    """Terms with the same operands: coefficient times a segment of every factor, added to a segment of the output."""

    operands: tuple[int, ...]  # of the polynomial, its output last; a repeated operand is raised to a power
    segments: np.ndarray  # [terms, operands], int
    coefficients: np.ndarray  # [terms], float64


@dataclasses.dataclass(frozen=True)
class CuequivarianceInteraction(CGInteraction):
    """`CGInteraction`, evaluated edge by edge as Σ coefficient · weight · node component · harmonic."""

    @functools.cached_property
    def terms(self) -> Terms:
        """Segments: weight, node component, harmonic, output component."""
        node_rows, edge_rows = rows_of(self.irreps_node), rows_of(self.irreps_edge)
        segments, coefficients, row = [], [], 0
        for weight, path in enumerate(self._paths):
            table = path_coupling(path)[None]
            segments.append(np.argwhere(table) + [weight, node_rows[path.node].start, edge_rows[path.edge].start, row])
            coefficients.append(table[np.nonzero(table)])
            row += path.out.dim
        return Terms((0, 1, 2, 3), np.concatenate(segments), np.concatenate(coefficients))

    def polynomial(self) -> None:
        """Evaluated by its own library, never by the compiled kernel."""

    def __call__(self, weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array, batch: GraphBatch) -> jax.Array:
        _, num_nodes, channels = node_feats.shape
        sizes = self.num_weights, self.irreps_node.dim, self.irreps_edge.dim, self.irreps_out.dim
        polynomial = _polynomial([self.terms], sizes, [(channels,), (channels,), (), (channels,)])
        inputs = [weights.reshape(weights.shape[0], self.num_weights * channels), _by_entry(node_feats), jnp.asarray(edge_attrs)]
        output = _evaluate(polynomial, inputs, [batch.edge_pair, batch.senders, None, batch.receivers], num_nodes)
        return output.reshape(num_nodes, -1, channels).swapaxes(0, 1)


@dataclasses.dataclass(frozen=True)
class CuequivarianceProductBasis(CGProductBasis):
    """`CGProductBasis`, evaluated as Σ coefficient · weight · monomial, with the monomial's factors one by one."""

    @functools.cached_property
    def terms(self) -> tuple[Terms, ...]:
        """For every order, segments: weight, components of the node's features, output component."""
        orders, weight = [], 0
        for order in range(1, self.correlation + 1):
            segments, coefficients = [], []
            for irrep, rows in zip(self.irreps_out, self.irreps_out.slices(), strict=True):
                basis = symmetric_basis(self.irreps_in, irrep.ir, order)
                coupling, m, monomial = np.nonzero(basis.table)
                segments.append(np.column_stack([weight + coupling, basis.monomials[monomial], rows.start + m]))
                coefficients.append(basis.table[coupling, m, monomial])
                weight += len(basis.table)
            orders.append(Terms((0, *[1] * order, 2), np.concatenate(segments), np.concatenate(coefficients)))
        return tuple(orders)

    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> None:
        """Evaluated by its own library, never by the compiled kernel."""

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        _, num_nodes, channels = node_feats.shape
        polynomial = _polynomial(self.terms, (self.num_weights, self.irreps_in.dim, self.irreps_out.dim), [(channels,)] * 3)
        output = _evaluate(polynomial, [_by_entry(weights), _by_entry(node_feats)], [species, None, None], num_nodes)
        return output.reshape(num_nodes, -1, channels).swapaxes(0, 1)


@dataclasses.dataclass(frozen=True)
class CuequivarianceBilinear(BilinearPlan):
    """The bilinear map of `cg`, one copy of the output for every path, evaluated as Σ coefficient · first component · second component."""

    @functools.cached_property
    def terms(self) -> Terms:
        """Segments: first component, second component, output component."""
        first, second = rows_of(self.irreps_1), rows_of(self.irreps_2)
        segments, coefficients, row = [], [], 0
        for path in self.paths:
            table = path_coupling(path)
            segments.append(np.argwhere(table) + [first[path.node].start, second[path.edge].start, row])
            coefficients.append(table[np.nonzero(table)])
            row += path.out.dim
        return Terms((0, 1, 2), np.concatenate(segments), np.concatenate(coefficients))

    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        # The entries are the channels of a single node.
        num_entries = first.shape[1]
        polynomial = _polynomial([self.terms], (self.irreps_1.dim, self.irreps_2.dim, self.irreps_out.dim), [(num_entries,)] * 3)
        return _evaluate(polynomial, [first.reshape(1, -1), second.reshape(1, -1)], [None] * 3, 1).reshape(-1, num_entries)


def _by_entry(array: jax.Array) -> jax.Array:
    """[components, entries, channels] → the library's [entries, components · channels]."""
    return jnp.swapaxes(array, 0, 1).reshape(array.shape[1], -1)


def _polynomial(parts: Sequence[Terms], sizes: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> Any:
    """The library's polynomial; for each operand, the output last, the number of its segments and their shape: (channels,) or ()."""
    cue, _ = _library()
    operands = [cue.SegmentedOperand([shape] * size) for size, shape in zip(sizes, shapes, strict=True)]
    operations = []
    for terms in parts:
        factors = [(operands[i], "u" * len(shapes[i])) for i in terms.operands]
        paths = map(cue.segmented_polynomials.Path, terms.segments, terms.coefficients)
        operations.append((terms.operands, cue.SegmentedTensorProduct(factors, paths=list(paths))))
    return cue.SegmentedPolynomial(operands[:-1], operands[-1:], operations)


def _evaluate(polynomial: Any, inputs: list[jax.Array], indices: list[jax.Array | None], num_nodes: int) -> jax.Array:
    """Value [nodes, components · channels] of a polynomial with one output.

    Args:
        polynomial: from `_polynomial`.
        inputs: [entries, segments · channels] each.
        indices: for each input the entries to gather, then the entries of the output to scatter to; None: all entries in order.
        num_nodes: entries of the output.
    """
    _, cuex = _library()
    method = "uniform_1d" if _is_gpu() else "naive"
    output = jax.ShapeDtypeStruct((num_nodes, polynomial.outputs[0].size), inputs[0].dtype)
    return cuex.segmented_polynomial(polynomial, inputs, [output], indices, method=method)[0]


def _is_gpu() -> bool:
    """Whether a GPU is what jax computes on by default."""
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue] - jax declares it at run time
    return (device.platform if isinstance(device, jax.Device) else jax.default_backend()) == "gpu"


def _require_kernels() -> None:
    try:
        from cuequivariance_ops_jax import Operation, Path, uniform_1d  # noqa: F401
    except Exception as error:  # it loads shared libraries, which may fail in any way
        raise InputError(
            f"tensor_product=cuequivariance: its kernels for a GPU cannot be loaded ({_one_line(error)}); install "
            f"cuequivariance-ops-jax-cu12 or -cu13, for the CUDA version of jax; {_INSTEAD}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _library() -> tuple[ModuleType, ModuleType]:
    """`cuequivariance` and `cuequivariance_jax`; on a GPU also checks the kernels. Imported late: they are optional and slow to load."""
    try:
        import cuequivariance
        import cuequivariance_jax
    except ModuleNotFoundError as error:
        install = "in the clone of mace-tp: pip install -e '.[cuequivariance]'"
        raise InputError(f"tensor_product=cuequivariance: the package is not installed; {install}") from error
    except Exception as error:  # they load shared libraries, which may fail in any way
        raise InputError(f"tensor_product=cuequivariance: the package cannot be loaded ({_one_line(error)}); {_INSTEAD}") from error
    if _is_gpu():
        _require_kernels()
    from cuequivariance_jax.segmented_polynomials.segmented_polynomial import segmented_polynomial_p

    # jax 0.12 also passes the live inputs to a rule of dead code elimination; the rule of cuequivariance-jax 0.13 does not take them.
    rule = partial_eval.dce_rules[segmented_polynomial_p]
    if jax.__version_info__ >= (0, 12) and len(inspect.signature(rule).parameters) == 2:
        partial_eval.dce_rules[segmented_polynomial_p] = lambda used, _, equation: rule(used, equation)  # pyright: ignore[reportArgumentType]
    return cuequivariance, cuequivariance_jax
