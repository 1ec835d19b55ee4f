"""Orthonormal, linearly independent basis of the symmetric equivariant maps x^ν → l, as tables over monomials.

The maps of Batatia et al. 2022 (MACE, eq. 10) act on the ν-fold product of one vector with itself, so only their
symmetric part matters. ACEsuit's tables keep one column for every coupling tree of every ordered tuple of degrees (23 for
0e at l_max 3, ν = 3); only 8 of them are independent as functions. Here each tree is written as polynomials in the
components of x, and Gram-Schmidt keeps the independent ones.
"""

import dataclasses
import functools
import itertools
import math

import e3nn_jax as e3nn
import numpy as np

# A coupling that is dependent on the earlier ones leaves a residual of rounding size; an independent one is of order one.
_INDEPENDENT = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class SymmetricBasis:
    """All independent couplings of order ν for one output irrep."""

    monomials: np.ndarray  # [monomials, ν], int: ascending component indices of x
    table: np.ndarray  # [couplings, 2l+1, monomials], float64: coefficient of each monomial
    factors: tuple[tuple[int, ...], ...]  # for each coupling, the positions in irreps_in that it multiplies
    num_trees: int  # couplings before the reduction: one for each tree of each ordered tuple of irreps


@dataclasses.dataclass(frozen=True)
class Coupling:
    """One vector of the reduced symmetric basis (`symmetric_basis.py`): the irreps of ν factors, coupled to one irrep."""

    factors: tuple[e3nn.Irrep, ...]
    out: e3nn.Irrep
    index: int  # among the independent couplings of these factors


@functools.cache
def symmetric_basis(irreps_in: e3nn.Irreps, irrep_out: e3nn.Irrep, order: int) -> SymmetricBasis:
    """Basis of the O(3)-equivariant maps from the symmetric power of order `order` of `irreps_in` to `irrep_out`.

    Each coupling is orthonormal as a set of symmetric tensors: Σ over monomials of coefficient² / multiplicity is 1 for
    every component of the output ("component" normalization). Multiplicity counts the orderings of a monomial.

    Args:
        irreps_in: irreps of x, each of multiplicity one.
        irrep_out: degree and parity of the output.
        order: ν ≥ 1.
    """
    irreps = [mul_ir.ir for mul_ir in irreps_in]
    if any(mul_ir.mul != 1 for mul_ir in irreps_in):
        raise ValueError(f"irreps_in must have multiplicity one, got {irreps_in}")
    index = _monomial_index(irreps_in.dim, order)
    norm = np.sqrt([1 / multiplicity(monomial) for monomial in index])
    kept: list[np.ndarray] = []
    factors: list[tuple[int, ...]] = []
    num_trees = 0
    for multiset in itertools.combinations_with_replacement(range(len(irreps)), order):
        if math.prod(irreps[i].p for i in multiset) != irrep_out.p:
            continue
        block: list[np.ndarray] = []
        trees = _coupling_trees([irreps[i].l for i in multiset], irrep_out.l)
        num_trees += len(trees) * multiplicity(multiset)
        for tensor in trees:
            vector = _as_polynomials(tensor, [irreps_in.slices()[i].start for i in multiset], index) * norm
            for other in block:
                vector = vector - other * np.vdot(other, vector) / irrep_out.dim
            size = np.sqrt(np.vdot(vector, vector) / irrep_out.dim)
            if size > _INDEPENDENT:
                block.append(vector / size)
        kept += block
        factors += [multiset] * len(block)
    table = np.stack(kept) / norm if kept else np.zeros((0, irrep_out.dim, len(index)))
    table[np.abs(table) < 1e-12] = 0
    used = np.flatnonzero(np.any(table != 0, axis=(0, 1)))
    monomials = all_monomials(irreps_in.dim, order)[used]
    return SymmetricBasis(monomials=monomials, table=table[:, :, used], factors=tuple(factors), num_trees=num_trees)


@functools.cache
def symmetric_couplings(irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> tuple[Coupling, ...]:
    """Names of all basis vectors of the orders 1 .. correlation, by order, output irrep and index: the order of `cg`'s weights."""
    irreps, couplings = [irrep.ir for irrep in irreps_in], []
    for order in range(1, correlation + 1):
        for irrep in irreps_out:
            factors = symmetric_basis(irreps_in, irrep.ir, order).factors
            names = [tuple(irreps[i] for i in positions) for positions in factors]
            couplings += [Coupling(name, irrep.ir, names[:i].count(name)) for i, name in enumerate(names)]
    return tuple(couplings)


@functools.cache
def _monomial_index(dim: int, order: int) -> dict[tuple[int, ...], int]:
    return {monomial: i for i, monomial in enumerate(itertools.combinations_with_replacement(range(dim), order))}


def all_monomials(dim: int, order: int) -> np.ndarray:
    """Ascending component indices of every monomial [monomials, order] in `dim` components."""
    return np.array(list(_monomial_index(dim, order)), dtype=np.int32).reshape(-1, order)


def monomial_positions(dim: int, order: int, monomials: np.ndarray) -> np.ndarray:
    """Positions of monomials [..., order] of ascending indices among `all_monomials`."""
    index = _monomial_index(dim, order)
    return np.array([index[tuple(monomial)] for monomial in monomials.tolist()], dtype=np.int64)


def multiplicity(monomial: tuple[int, ...]) -> int:
    """Number of distinct orderings of the indices of a monomial."""
    counts = np.unique(monomial, return_counts=True)[1]
    return math.factorial(len(monomial)) // math.prod(math.factorial(int(count)) for count in counts)


def _coupling_trees(degrees: list[int], l_out: int) -> list[np.ndarray]:
    """Every chain ((l1 l2) l3) ... → l_out of Clebsch-Gordan tensors, as arrays [2l_out+1, 2l1+1, ..., 2lν+1]."""
    trees = [(degrees[0], np.eye(2 * degrees[0] + 1))]
    for degree in degrees[1:]:
        trees = [
            (l, np.tensordot(clebsch_gordan(left, degree, l), tensor, axes=(0, 0)).transpose(1, *range(2, tensor.ndim + 1), 0))
            for left, tensor in trees
            for l in range(abs(left - degree), left + degree + 1)
        ]
    return [tensor for l, tensor in trees if l == l_out]


def _as_polynomials(tensor: np.ndarray, offsets: list[int], index: dict[tuple[int, ...], int]) -> np.ndarray:
    """Collapse a tensor [2l+1, ...] over the components of its factors onto monomials [2l+1, monomials]."""
    polynomials = np.zeros((tensor.shape[0], len(index)))
    for position in zip(*np.nonzero(np.any(tensor != 0, axis=0))):
        monomial = tuple(sorted(offset + i for offset, i in zip(offsets, position)))
        polynomials[:, index[monomial]] += tensor[(slice(None), *position)]
    return polynomials


@functools.cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real coupling tensor [2l1+1, 2l2+1, 2l3+1] of Frobenius norm one, in e3nn's component order."""
    tensor = np.array(e3nn.clebsch_gordan(l1, l2, l3), dtype=np.float64)
    tensor[np.abs(tensor) < 1e-12] = 0
    return tensor
