"""Clebsch-Gordan coordinates of chains of products, by the algebra of couplings alone."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import e3nn_jax as e3nn
import numpy as np

from mace_tp.tensor_products.algebra.symmetric_basis import all_monomials, clebsch_gordan, monomial_positions, multiplicity, symmetric_basis

# Key of the polynomials beside one weight of a product basis: order, output irrep, and anything else that tells two weights apart.
BasisTerm = tuple[Any, ...]
# Factor relative to C[l1, l2, l3] with which a product couples two irreps to a third; zero if it does not.
CouplingLaw = Callable[[e3nn.Irrep, e3nn.Irrep, e3nn.Irrep], float]


def chain_polynomials(irreps_in: e3nn.Irreps, irrep_out: e3nn.Irrep, steps: Sequence[tuple[e3nn.Irreps, CouplingLaw]]) -> np.ndarray:
    """((x · x) · x) ... → irrep_out as polynomials [components, monomials] in the components of x.

    Args:
        irreps_in: irreps of x, of multiplicity one.
        irrep_out: irrep that the last product is projected on.
        steps: for each multiplication, the irreps of x that take part as the right factor, and the couplings of the product.
            Between two steps all irreps are kept.
    """
    chain = {irrep.ir: np.eye(irreps_in.dim)[rows] for irrep, rows in zip(irreps_in, irreps_in.slices())}
    for order, (factor, law) in enumerate(steps, start=1):
        is_last = order == len(steps)
        chain = _multiplied(chain, irreps_in, factor, law, order, irrep_out if is_last else None)
    return chain.get(irrep_out, np.zeros((irrep_out.dim, len(all_monomials(irreps_in.dim, len(steps) + 1)))))


def times_component(polynomials: np.ndarray, dim: int, order: int, component: int) -> np.ndarray:
    """Polynomials [..., monomials of the order] times one of the `dim` components [..., monomials of order + 1]."""
    targets = _monomial_products(dim, order)
    product = np.zeros((*polynomials.shape[:-1], targets.max() + 1))
    product[..., targets[:, component]] = polynomials  # different monomials times one component are different monomials
    return product


def size(polynomials: np.ndarray, dim: int, order: int) -> float:
    """Root of the mean over components of Σ coefficient² / multiplicity: one for a vector of the reduced symmetric basis."""
    weights = np.array([1 / multiplicity(monomial) for monomial in all_monomials(dim, order).tolist()])
    return float(np.sqrt((polynomials**2 @ weights).mean()))


def coordinates(polynomials: np.ndarray, irreps_in: e3nn.Irreps, irrep_out: e3nn.Irrep, order: int) -> np.ndarray:
    """Coordinates [couplings] of equivariant polynomials in the reduced symmetric basis."""
    basis = symmetric_basis(irreps_in, irrep_out, order)
    used = monomial_positions(irreps_in.dim, order, basis.monomials)
    weights = np.array([1 / multiplicity(monomial) for monomial in basis.monomials.tolist()])
    return np.einsum("emi,mi,i->e", basis.table, polynomials[:, used], weights) / irrep_out.dim


def normalizations(terms: Mapping[BasisTerm, np.ndarray], irreps_in: e3nn.Irreps) -> dict[BasisTerm, float]:
    """Factors that scale each term to size one, the size of `cg`'s couplings."""
    return {term: 1 / size(polynomials, irreps_in.dim, term[0]) for term, polynomials in terms.items()}


def unit_coordinates(terms: Mapping[BasisTerm, np.ndarray], irreps_in: e3nn.Irreps) -> dict[BasisTerm, np.ndarray]:
    """Coordinates [couplings] of each term, normalized."""
    norms = normalizations(terms, irreps_in)
    return {term: norms[term] * coordinates(polynomials, irreps_in, term[1], term[0]) for term, polynomials in terms.items()}


def start_scale(order: int) -> float:
    """Standard deviation, at initialization, of a weight beside polynomials of size one: ν!^(-3/2), much as in `cg`.

    For features of unit variance such polynomials are of order sqrt(ν!), so that an order contributes 1/ν!.
    """
    return math.factorial(order) ** -1.5


def in_order(
    basis: tuple[e3nn.Irreps, e3nn.Irreps, int], terms: Mapping[tuple[int, e3nn.Irrep], np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Coordinates of all couplings [couplings, *shape], in the order of `symmetric_couplings`.

    Args:
        basis: irreps_in, irreps_out and correlation.
        terms: coordinates for orders and output irreps; missing ones are zero.
        shape: of the coordinates of one coupling.
    """
    irreps_in, irreps_out, correlation = basis
    blocks = []
    for order in range(1, correlation + 1):
        for irrep in irreps_out:
            num_couplings = len(symmetric_basis(irreps_in, irrep.ir, order).table)
            blocks.append(terms.get((order, irrep.ir), np.zeros((num_couplings, *shape))))
    return np.concatenate(blocks)


def _multiplied(
    chain: dict[e3nn.Irrep, np.ndarray], irreps_in: e3nn.Irreps, factor: e3nn.Irreps, law: CouplingLaw, order: int, only: e3nn.Irrep | None
) -> dict[e3nn.Irrep, np.ndarray]:  # fmt: skip
    """Polynomials [components, monomials of order + 1] of each irrep in the product of the chain with x."""
    rows = {irrep.ir: rows.start for irrep, rows in zip(irreps_in, irreps_in.slices())}
    products: dict[e3nn.Irrep, np.ndarray] = {}
    for left, polynomials in chain.items():
        for right in factor:
            for out in left * right.ir:
                strength = law(left, right.ir, out) if only is None or out == only else 0.0
                if strength == 0:
                    continue
                coupling = strength * clebsch_gordan(left.l, right.ir.l, out.l)
                for j in range(right.ir.dim):
                    term = times_component(coupling[:, j].T @ polynomials, irreps_in.dim, order, rows[right.ir] + j)
                    products[out] = products[out] + term if out in products else term
    return products


@functools.cache
def _monomial_products(dim: int, order: int) -> np.ndarray:
    """Position of monomial times component [monomials of the order, dim] among the monomials of the next order."""
    monomials = all_monomials(dim, order)
    products = np.concatenate([np.repeat(monomials, dim, axis=0), np.tile(np.arange(dim), len(monomials))[:, None]], axis=1)
    return monomial_positions(dim, order + 1, np.sort(products, axis=1)).reshape(len(monomials), dim)
