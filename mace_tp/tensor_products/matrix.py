"""Matrix (fused) tensor product: features as square matrices, multiplied as matrices.

M_l = sqrt(2l+1) C[s, s, l] for l = 0 .. 2s are an orthonormal basis of the (2s+1) × (2s+1) matrices, and rotations act on them as
on irreps. The product has couplings of even and odd degree sum, in proportion to a 6j symbol.

Source: Unke & Maennel 2024 (E3x, "fused tensor products"), who keep even and odd parity apart, as is done here.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.errors import InputError
from mace_tp.kernels.butterflies import linear_map
from mace_tp.kernels.polynomial import Builder, Term
from mace_tp.tensor_products.algebra.closed_forms import matrix_coupling
from mace_tp.tensor_products.algebra.coordinates import BasisTerm
from mace_tp.tensor_products.algebra.irreps import is_natural, parity_mask, require_harmonics, split_irreps
from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan
from mace_tp.tensor_products.base import require_reached
from mace_tp.tensor_products.fixed_product import DegreeWeighted, FixedBilinear, FixedProduct
from mace_tp.tensor_products.ops.polynomials import bilinear_map, weighted_terms
from mace_tp.tensor_products.ops.powers import Powers, Steps
from mace_tp.tensor_products.ops.sparse_product import total
from mace_tp.tensor_products.ops.table_map import table_map


@dataclasses.dataclass(frozen=True)
class Matrix(FixedProduct):
    """Matrix tensor product, with weights per degree."""

    # s: matrices of side 2s+1 hold irreps up to l = 2s. None, the default, takes the smallest s that holds all irreps.
    degree: int | None = dataclasses.field(default=None, metadata={"examples": (2,)})

    name: ClassVar[str] = "matrix"

    def __post_init__(self) -> None:
        if self.degree is not None and (type(self.degree) is not int or self.degree < 0):
            raise InputError(f"tensor_product: degree of matrix must be a whole number of at least 0, or null, got {self.degree!r}")

    @property
    def chosen_degree(self) -> int:
        """The degree; without one, a plan makes a product with the degree for its irreps."""
        assert self.degree is not None, "no degree is chosen"
        return self.degree

    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        return matrix_law(self.chosen_degree, irrep_1, irrep_2, irrep_out)

    def table(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
        first, second, out = (matrices(irreps, self.chosen_degree) for irreps in (irreps_1, irreps_2, irreps_out))
        return np.einsum("iab,jbc,mac->ijm", first, second, out, optimize=True) * parity_mask(irreps_1, irreps_2, irreps_out)

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> DegreeWeighted:
        degree = self._holding(irreps_node + irreps_edge + irreps_keep)
        return DegreeWeighted(dataclasses.replace(self, degree=degree), irreps_node, irreps_edge, irreps_keep)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> "MatrixPowers":
        plan = MatrixPowers(self._holding(irreps_in + irreps_out), irreps_in, irreps_out, correlation)
        require_reached(self.name, plan, plan.reached)
        return plan

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> "MatrixBilinear":
        degree = self._holding(irreps_1 + irreps_2 + irreps_keep)
        return MatrixBilinear.of(dataclasses.replace(self, degree=degree), irreps_1, irreps_2, irreps_keep)

    def _holding(self, irreps: e3nn.Irreps) -> int:
        """The degree s for these irreps."""
        highest = max(irrep.ir.l for irrep in irreps)
        smallest = -(-highest // 2)
        if self.degree is not None and self.degree < smallest:
            reason = f"irreps go up to l = {highest}, which needs a degree of at least {smallest}"
            raise InputError(f"tensor_product: degree {self.degree} of matrix is too small: {reason}")
        return smallest if self.degree is None else self.degree


def matrices(irreps: e3nn.Irreps, degree: int) -> np.ndarray:
    """M_l,m for the components of irreps [components, 2s+1, 2s+1], each of Frobenius norm one."""
    return np.concatenate([np.sqrt(irrep.ir.dim) * clebsch_gordan(degree, degree, irrep.ir.l).transpose(2, 0, 1) for irrep in irreps])


def matrix_law(degree: int, left: e3nn.Irrep, right: e3nn.Irrep, out: e3nn.Irrep) -> float:
    """Coupling of the matrix product; parities multiply."""
    return matrix_coupling(degree, left.l, right.l, out.l) if out.p == left.p * right.p else 0.0


@dataclasses.dataclass(frozen=True)
class MatrixBilinear(FixedBilinear):
    """Tensors from XY + YX, pseudo-tensors from XY - YX, with X = Σ_l M_l x_l and Y likewise.

    M_lᵀ = (-1)^l M_l, so that a coupling of even degree sum is the same in XY and YX, and one of odd sum changes its sign. For
    harmonics even sums make tensors and odd sums pseudo-tensors.
    """

    product: Matrix

    @functools.cached_property
    def _embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Features → matrices [(2s+1)², components], of both."""
        first, second = (matrices(irreps, self.product.chosen_degree) for irreps in (self.irreps_1, self.irreps_2))
        return np.ascontiguousarray(first.reshape(len(first), -1).T), np.ascontiguousarray(second.reshape(len(second), -1).T)

    @functools.cached_property
    def _projections(self) -> dict[int, np.ndarray]:
        """For outputs of sign +1 (tensors) and -1 (pseudo-tensors), if any, half of their table [components, (2s+1)²]."""
        outs = {sign: [irrep for irrep in self.irreps_out if is_natural(irrep.ir) == (sign == 1)] for sign in (1, -1)}
        tables = {sign: matrices(e3nn.Irreps(irreps), self.product.chosen_degree) for sign, irreps in outs.items() if irreps}
        return {sign: table.reshape(len(table), -1) / 2 for sign, table in tables.items()}

    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        side = 2 * self.product.chosen_degree + 1
        left, right = (table_map(table)(x).reshape(side, side, -1) for table, x in zip(self._embeddings, (first, second), strict=True))
        product, swapped = _multiply_terms(left, right), _multiply_terms(right, left)
        blocks = {}
        for sign, table in self._projections.items():
            outs = e3nn.Irreps([irrep for irrep in self.irreps_out if is_natural(irrep.ir) == (sign == 1)])
            blocks |= split_irreps(table_map(table)((product + sign * swapped).reshape(side**2, -1)), outs)
        return jnp.concatenate([blocks[irrep.ir] for irrep in self.irreps_out])


@dataclasses.dataclass(frozen=True)
class MatrixPowers(Powers):
    """B_l = Σ_ν W[Z, ν, l] tr(X^ν M_lᵀ) with X = Σ_l M_l A_l.

    Matrices of even degree are symmetric and even, matrices of odd degree antisymmetric and odd. In a power of X the parity of the
    factors therefore goes with the symmetry of the matrix: one matrix serves both parities, and pseudo-tensors vanish.
    Weights are ordered by order ν, then output irrep.
    """

    degree: int
    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    correlation: int

    def __post_init__(self) -> None:
        require_harmonics(self.irreps_in)

    @functools.cached_property
    def _embedding(self) -> np.ndarray:
        """Features → matrices [(2s+1)², components]."""
        return np.ascontiguousarray(matrices(self.irreps_in, self.degree).reshape(self.irreps_in.dim, -1).T)

    def chains(self) -> dict[BasisTerm, Steps]:
        return self._repeated(functools.partial(matrix_law, self.degree))

    @functools.cached_property
    def _projections(self) -> dict[int, np.ndarray]:
        """For every order, matrices → normalized components of the irreps that it reaches [components, (2s+1)²]."""
        side = 2 * self.degree + 1
        rows: dict[int, list[np.ndarray]] = {}
        for (order, irrep), norm in self._norms.items():
            rows.setdefault(order, []).append(norm * matrices(e3nn.Irreps([irrep]), self.degree).reshape(-1, side**2))
        return {order: np.concatenate(blocks) for order, blocks in rows.items()}

    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> list[list[Term]]:
        coupled = {order: iter(values) for order, values in self._projected_powers(builder, feats).items()}
        weighted = zip(weights, self._norms, strict=True)
        return weighted_terms(
            self.irreps_out, [(irrep, weight, [next(coupled[order]) for _ in range(irrep.dim)]) for weight, (order, irrep) in weighted]
        )

    def _projected_powers(self, builder: Builder, feats: Sequence[int]) -> dict[int, list[int]]:
        """For every order the components after `_projections`; if there are only squares, products of two components are cheapest."""
        if max(self._projections) == 2:
            features = matrices(self.irreps_in, self.degree)
            table = np.einsum("mac,iab,jbc->ijm", self._projections[2].reshape(-1, *features.shape[1:]), features, features, optimize=True)
            squares = {2: bilinear_map(builder, table, feats, feats)}
            return {1: linear_map(builder, self._projections[1] @ self._embedding, feats)} | squares if 1 in self._projections else squares
        matrix = np.reshape(linear_map(builder, self._embedding, feats), (2 * self.degree + 1,) * 2)
        power, projected = matrix, {}
        for order in range(1, max(self._projections) + 1):
            power = power if order == 1 else _multiplied(builder, power, matrix)
            if order in self._projections:
                projected[order] = linear_map(builder, self._projections[order], power.ravel().tolist())
        return projected

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        return self._weighted_sum(self._parts(weights[:, species], node_feats), node_feats)

    def _parts(self, node_weights: jax.Array, node_feats: jax.Array) -> Iterator[tuple[e3nn.Irrep, jax.Array, jax.Array]]:
        """Output irrep, weight and projected power of every term."""
        side, weights = 2 * self.degree + 1, iter(node_weights)
        matrix = table_map(self._embedding)(node_feats).reshape(side, side, *node_feats.shape[1:])
        power = matrix
        for order in range(1, self.correlation + 1):
            if order in self._projections:
                coupled = table_map(self._projections[order])(power.reshape(side**2, *node_feats.shape[1:]))
                start = 0
                for irrep in [irrep for reached_order, irrep in self._norms if reached_order == order]:
                    yield irrep, next(weights), coupled[start : start + irrep.dim]
                    start += irrep.dim
            if order < self.correlation:
                power = _multiply(power, matrix)


def _multiplied(builder: Builder, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Numbers of the entries of a matrix product from those of the factors [side, side]."""
    products = [[builder.add([Term(1.0, pair) for pair in zip(row, column)]) for column in second.T.tolist()] for row in first.tolist()]
    return np.array(products)


def _by_rows(first: jax.Array, second: jax.Array) -> jax.Array:
    """One row of the product after the other."""
    return jnp.stack([jnp.sum(row[:, None] * second, axis=0) for row in first])


def _by_terms(first: jax.Array, second: jax.Array) -> jax.Array:
    """The sum over columns of the first times rows of the second, written out so that XLA fuses it."""
    return total([first[:, i, None] * second[i] for i in range(len(second))])


def _multiplication(form: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Product of small matrices [side, side, ...] in a given form; its derivatives are products in the same form.

    Reverse mode only.
    """

    @jax.custom_vjp
    def multiply(first: jax.Array, second: jax.Array) -> jax.Array:
        return form(first, second)

    def forward(first: jax.Array, second: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return multiply(first, second), (first, second)

    def backward(factors: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, second = factors
        return multiply(cotangent, second.swapaxes(0, 1)), multiply(first.swapaxes(0, 1), cotangent)

    multiply.defvjp(forward, backward)
    return multiply


# In training the first form is faster for powers of some thousands of entries, the second for products of ten thousand entries
# (`mace-tp benchmark`).
_multiply, _multiply_terms = _multiplication(_by_rows), _multiplication(_by_terms)
