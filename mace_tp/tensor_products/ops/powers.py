"""Product bases that are powers of a bilinear map with fixed couplings: their common part, and the form for any couplings."""

import abc
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.kernels.polynomial import Builder, Term
from mace_tp.tensor_products.algebra.coordinates import (
    BasisTerm,
    CouplingLaw,
    chain_polynomials,
    in_order,
    normalizations,
    start_scale,
    unit_coordinates,
)
from mace_tp.tensor_products.algebra.irreps import split_irreps
from mace_tp.tensor_products.algebra.paths import Path
from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan
from mace_tp.tensor_products.ops.outer_products import outer_products
from mace_tp.tensor_products.ops.polynomial_basis import PolynomialBasis
from mace_tp.tensor_products.ops.polynomials import weighted_terms
from mace_tp.tensor_products.ops.sparse_product import total

# Polynomials and couplings are sums of a few terms of order one; smaller ones than these are rounding errors.
_VANISHING, _UNCOUPLED = 1e-8, 1e-10
# A chain of multiplications by x: for each the irreps of x that take part, and the couplings.
Steps = Sequence[tuple[e3nn.Irreps, CouplingLaw]]


class Powers(PolynomialBasis):
    """A product basis whose weights each multiply one chain of products of the features, scaled to size one.

    A term is (order, output irrep, ...) and has one weight. A subclass says which chains there are and evaluates them; those that
    vanish have no weight.
    """

    @abc.abstractmethod
    def chains(self) -> dict[BasisTerm, Steps]:
        """The multiplications of every term that there may be."""

    @functools.cached_property
    def _polynomials(self) -> dict[BasisTerm, np.ndarray]:
        """For every term that does not vanish its polynomials [components, monomials], before normalization."""
        polynomials = {term: chain_polynomials(self.irreps_in, term[1], steps) for term, steps in self.chains().items()}
        return {term: values for term, values in polynomials.items() if np.abs(values).max() > _VANISHING}

    @functools.cached_property
    def _norms(self) -> dict[BasisTerm, float]:
        return normalizations(self._polynomials, self.irreps_in)

    @functools.cached_property
    def _units(self) -> dict[BasisTerm, np.ndarray]:
        """Clebsch-Gordan coordinates of every term, after normalization."""
        return unit_coordinates(self._polynomials, self.irreps_in)

    @property
    def terms(self) -> tuple[BasisTerm, ...]:
        """In the order of their weights."""
        return tuple(self._norms)

    @property
    def reached(self) -> list[e3nn.Irrep]:
        """Irreps of the output that are not zero for all weights."""
        return list(dict.fromkeys(term[1] for term in self.terms))

    @functools.cached_property
    def weight_scales(self) -> tuple[float, ...]:
        return tuple(start_scale(term[0]) for term in self.terms)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        coordinates: dict[BasisTerm, np.ndarray] = {}
        for (term, unit), weight in zip(self._units.items(), np.asarray(weights), strict=True):
            coordinates[term[:2]] = coordinates.get(term[:2], 0.0) + unit.reshape(-1, *[1] * weight.ndim) * weight
        return in_order((self.irreps_in, self.irreps_out, self.correlation), coordinates, weights.shape[1:])

    def _weighted_sum(self, parts: Iterable[tuple[e3nn.Irrep, jax.Array, jax.Array]], node_feats: jax.Array) -> jax.Array:
        """Σ weight · value [irreps_out.dim, nodes, channels].

        Args:
            parts: output irrep, weight [nodes, channels], value [components, nodes, channels].
            node_feats: for their shape and dtype.
        """
        outputs = {irrep.ir: jnp.zeros((irrep.ir.dim, *node_feats.shape[1:]), node_feats.dtype) for irrep in self.irreps_out}
        for irrep, weight, value in parts:
            outputs[irrep] += weight * value
        return jnp.concatenate([outputs[irrep.ir] for irrep in self.irreps_out])

    def _repeated(self, law: CouplingLaw) -> dict[BasisTerm, Steps]:
        """The chains x, x·x, (x·x)·x, ... of one product, projected on every output irrep."""
        orders = range(1, self.correlation + 1)
        return {(order, irrep.ir): [(self.irreps_in, law)] * (order - 1) for order in orders for irrep in self.irreps_out}


class Couplings(Protocol):
    """A bilinear map, given by its couplings."""

    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        """Factor relative to C[l1, l2, l3] of Frobenius norm one."""
        ...


@dataclasses.dataclass(frozen=True)
class ChainPowers(Powers):
    """B_l = Σ_ν W[Z, ν, l] P_l(A^ν) with A^ν = (... (A · A) · A ...) · A, for any bilinear product, coupling by coupling.

    Weights are ordered by order ν, then output irrep. Between two multiplications all irreps are kept that lead to an output.
    """

    product: Couplings
    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    correlation: int

    def chains(self) -> dict[BasisTerm, Steps]:
        return self._repeated(self.product.coupling)

    @functools.cached_property
    def _links(self) -> tuple[tuple[Path, ...], ...]:
        """For every multiplication the paths that lead to an output."""
        reach, links = [irrep.ir for irrep in self.irreps_in], []
        for _ in range(max((order for order, _ in self.terms), default=1) - 1):
            triples = [Path(left, right.ir, out) for left in reach for right in self.irreps_in for out in left * right.ir]
            links.append([path for path in triples if abs(self.product.coupling(path.node, path.edge, path.out)) > _UNCOUPLED])
            reach = sorted({path.out for path in links[-1]})
        needed: set[e3nn.Irrep] = set()
        for order in range(len(links) + 1, 1, -1):
            needed |= {irrep for term_order, irrep in self.terms if term_order == order}
            links[order - 2] = [path for path in links[order - 2] if path.out in needed]
            needed = {path.node for path in links[order - 2]}
        return tuple(map(tuple, links))

    @functools.cached_property
    def _tables(self) -> tuple[tuple[np.ndarray, ...], ...]:
        """For every path its coupling tensor [left components, right components, output components]."""
        return tuple(
            tuple(self.product.coupling(p.node, p.edge, p.out) * clebsch_gordan(p.node.l, p.edge.l, p.out.l) for p in paths)
            for paths in self._links
        )

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        node_weights, shape = self.polynomial_weights(weights)[:, species], node_feats.shape[1:]
        feats = split_irreps(jnp.reshape(node_feats, (self.irreps_in.dim, -1)), self.irreps_in)
        powers = {1: feats}
        for order, (paths, tables) in enumerate(zip(self._links, self._tables, strict=True), start=2):
            values = outer_products(paths, tables, powers[order - 1], feats)
            outs = dict.fromkeys(path.out for path in paths)
            powers[order] = {out: total([value for path, value in zip(paths, values) if path.out == out]) for out in outs}
        parts = zip(node_weights, self.terms, strict=True)
        values = ((irrep, weight, powers[order][irrep].reshape(irrep.dim, *shape)) for weight, (order, irrep) in parts)
        return self._weighted_sum(values, node_feats)

    def polynomial_weights(self, weights: jax.Array) -> jax.Array:
        return weights * np.array(list(self._norms.values()), weights.dtype)[:, None, None]

    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> list[list[Term]]:
        factors = {irrep.ir: list(feats[rows]) for irrep, rows in zip(self.irreps_in, self.irreps_in.slices())}
        powers = {1: factors}
        for order, (paths, tables) in enumerate(zip(self._links, self._tables, strict=True), start=2):
            sums: dict[e3nn.Irrep, list[list[Term]]] = {}
            for path, table in zip(paths, tables, strict=True):
                left, right = powers[order - 1][path.node], factors[path.edge]
                for terms, entries in zip(sums.setdefault(path.out, [[] for _ in range(path.out.dim)]), np.moveaxis(table, 2, 0)):
                    terms += [Term(float(entries[i, j]), (left[i], right[j])) for i, j in np.argwhere(entries)]
            powers[order] = {out: [builder.add(terms) for terms in components] for out, components in sums.items()}
        parts = zip(weights, self.terms, strict=True)
        return weighted_terms(self.irreps_out, [(irrep, weight, powers[order][irrep]) for weight, (order, irrep) in parts])
