"""A symmetric contraction as chains of pairwise couplings: the same function as its tables, in a hundredth of the operations.

The tables of `symmetric_basis.py` couple monomials, hundreds for three factors, to a few rows. Chains ((x x)→L x)→l span the same
space with a few hundred multiplications instead of tens of thousands. Real coupling tensors are sparse, chains share their first
links, and all chains with the same last link are added up, with their weights, before that link (`CGProductBasis`).
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import e3nn_jax as e3nn
import numpy as np

from mace_tp.tensor_products.algebra.coordinates import coordinates, times_component
from mace_tp.tensor_products.algebra.irreps import irreps_of
from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan, symmetric_basis

# Coordinates of a chain that depends on the others leave a residual of rounding size; an independent one is of order one.
_INDEPENDENT = 1e-6


@dataclasses.dataclass(frozen=True)
class Chain:
    """(((x_a x_b)→L1) x_c)→ ... irrep: a vector of symmetric polynomials in the components of x."""

    irrep: e3nn.Irrep
    factor: int  # position in irreps_in of the last factor
    parent: "Chain | None" = None  # the chain that the last factor is coupled to; None for x itself

    @property
    def order(self) -> int:
        return 1 if self.parent is None else self.parent.order + 1

    @property
    def before(self) -> "Chain":
        """The parent, of a chain of order two or more."""
        assert self.parent is not None, "x itself has no parent"
        return self.parent

    @property
    def link(self) -> tuple[e3nn.Irrep, int, e3nn.Irrep]:
        """The last coupling: irrep of the parent, position of the factor, output irrep."""
        return self.before.irrep, self.factor, self.irrep


def link_coupling(left: e3nn.Irrep, right: e3nn.Irrep, out: e3nn.Irrep) -> np.ndarray:
    """Coupling tensor [2l1+1, 2l2+1, 2l3+1] of one link, scaled so that many entries are one, which saves their multiplication."""
    tensor = clebsch_gordan(left.l, right.l, out.l)
    return tensor / np.abs(tensor).max()


@functools.cache
def chain_basis(irreps_in: e3nn.Irreps, irrep_out: e3nn.Irrep, order: int) -> tuple[tuple[Chain, ...], np.ndarray]:
    """Chains that span the reduced symmetric basis, and the matrix from weights of the couplings to weights of the chains.

    Returns:
        The chains, and [chains, couplings], float64: Σ_η W[η] U_η = Σ_c (matrix @ W)[c] chain_c.
    """
    factors = symmetric_basis(irreps_in, irrep_out, order).factors
    chains = [chain for multiset in dict.fromkeys(factors) for chain in _independent_chains(irreps_in, irrep_out, multiset)]
    rows = [_coordinates(irreps_in, chain) for chain in chains]
    return tuple(chains), np.linalg.inv(np.reshape(rows, (len(chains), len(factors)))).T


@functools.cache
def _independent_chains(irreps_in: e3nn.Irreps, irrep: e3nn.Irrep, factors: tuple[int, ...]) -> tuple[Chain, ...]:
    """A basis of the couplings of these factors to an irrep, the cheapest chains first."""
    if len(factors) == 1:
        return (Chain(irrep, factors[0]),) if irreps_of(irreps_in)[factors[0]] == irrep else ()
    wanted = symmetric_basis(irreps_in, irrep, len(factors)).factors.count(factors)
    kept: list[Chain] = []
    rows: list[np.ndarray] = []
    for chain in sorted(_candidates(irreps_in, irrep, factors), key=lambda chain: _cost(irreps_in, chain)):
        if len(kept) == wanted:
            break
        row = _coordinates(irreps_in, chain)
        if np.linalg.matrix_rank(np.array([*rows, row]), tol=_INDEPENDENT) > len(rows):
            kept.append(chain)
            rows.append(row)
    return tuple(kept)


def _candidates(irreps_in: e3nn.Irreps, irrep: e3nn.Irrep, factors: tuple[int, ...]) -> Iterator[Chain]:
    """Chains that end in any of the factors; their parents are a basis of the chains of the remaining factors."""
    for last in dict.fromkeys(factors):
        remaining = list(factors)
        remaining.remove(last)
        for before in irrep * irreps_of(irreps_in)[last]:
            for parent in _independent_chains(irreps_in, before, tuple(remaining)):
                yield Chain(irrep, last, parent)


def _cost(irreps_in: e3nn.Irreps, chain: Chain) -> int:
    """Multiplications of a chain by itself."""
    if chain.parent is None:
        return 0
    left, factor, out = chain.link
    return int(np.count_nonzero(link_coupling(left, irreps_of(irreps_in)[factor], out))) + _cost(irreps_in, chain.before)


def _coordinates(irreps_in: e3nn.Irreps, chain: Chain) -> np.ndarray:
    """Coordinates [couplings] in the reduced symmetric basis."""
    return coordinates(polynomials(irreps_in, chain), irreps_in, chain.irrep, chain.order)


@functools.cache
def polynomials(irreps_in: e3nn.Irreps, chain: Chain) -> np.ndarray:
    """The chain as polynomials [components, monomials] in the components of x."""
    rows = irreps_in.slices()[chain.factor]
    if chain.parent is None:
        return np.eye(irreps_in.dim)[rows]
    left, factor, out = chain.link
    coupling, before = link_coupling(left, irreps_of(irreps_in)[factor], out), polynomials(irreps_in, chain.before)
    terms = [times_component(coupling[:, j].T @ before, irreps_in.dim, chain.order - 1, rows.start + j) for j in range(coupling.shape[1])]
    return sum(terms, np.zeros(()))


def parents_of(chains: Sequence[Chain]) -> tuple[Chain, ...]:
    """All chains of order two and more that are parents of another chain, ascending by order."""
    found: dict[Chain, None] = {}
    for chain in chains:
        while chain.order > 2:
            chain = chain.before
            found[chain] = None
    return tuple(sorted(found, key=lambda chain: (chain.order, chain.irrep.l, chain.irrep.p)))
