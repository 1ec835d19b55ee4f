"""Spherical grid with a second product, the bracket r·(∇A × ∇B), which has the couplings of odd degree sum.

The pointwise product of two functions on the sphere couples degrees of even sum only; their bracket couples degrees of odd sum.
From harmonics it makes pseudo-tensors (1e, 2o, ...), and from pseudo-tensors and harmonics again tensors.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.kernels.polynomial import Builder, Term
from mace_tp.tensor_products.algebra.closed_forms import bracket_coupling
from mace_tp.tensor_products.algebra.coordinates import BasisTerm
from mace_tp.tensor_products.algebra.irreps import irreps_of, is_natural, parity_mask, rows_of_harmonics, split_irreps
from mace_tp.tensor_products.algebra.sampling import Samples, SphereSampler
from mace_tp.tensor_products.algebra.sphere import Quadrature, harmonics, quadrature, rotational_derivatives
from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan
from mace_tp.tensor_products.base import require_reached
from mace_tp.tensor_products.fixed_product import FixedBilinear, FixedProduct
from mace_tp.tensor_products.ops.pointwise import PointwisePowers, gaunt_law
from mace_tp.tensor_products.ops.polynomials import bilinear_map, sampled_powers, weighted_terms
from mace_tp.tensor_products.ops.powers import Powers, Steps
from mace_tp.tensor_products.ops.sum_of_plans import SumOfPlans
from mace_tp.tensor_products.ops.table_map import table_map
from mace_tp.tensor_products.plans import ProductBasisPlan


@dataclasses.dataclass(frozen=True)
class VectorGrid(FixedProduct):
    """Pointwise product and bracket on the sphere, with weights per degree.

    In the interaction it has all couplings of `cg`. In the product basis a bracket makes pseudo-tensors; for a model without them the
    basis is that of `spherical_grid`. Products of two brackets, which would be tensors again, are not taken.
    """

    name: ClassVar[str] = "vector_grid"

    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        return gaunt_law(irrep_1, irrep_2, irrep_out) + bracket_law(irrep_1, irrep_2, irrep_out)

    def table(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
        rows_1, rows_2, rows_out = (rows_of_harmonics(irreps) for irreps in (irreps_1, irreps_2, irreps_out))
        l_1, l_2, l_out = (max(irrep.ir.l for irrep in irreps) for irreps in (irreps_1, irreps_2, irreps_out))
        rule = quadrature(l_1 + l_2 + l_out)
        values, derivatives = harmonics(rule.points, max(l_1, l_2)), rotational_derivatives(rule.points, max(l_1, l_2))
        first, second = ([along[:, rows] for along in derivatives] for rows in (rows_1, rows_2))
        products = np.einsum("pi,pj->pij", values[:, rows_1], values[:, rows_2])
        products += np.einsum("pi,pj->pij", first[0], second[1]) - np.einsum("pi,pj->pij", first[1], second[0])
        projection = (harmonics(rule.points, l_out).T * rule.weights)[rows_out]
        return np.einsum("mp,pij->ijm", projection, products, optimize=True) * parity_mask(irreps_1, irreps_2, irreps_out)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        powers = PointwisePowers(SphereSampler(), irreps_in, irreps_out, correlation)
        brackets = BracketPowers(irreps_in, irreps_out, correlation)
        plan = SumOfPlans((powers, brackets) if brackets.num_weights else (powers,))
        require_reached(self.name, plan, [*powers.reached, *brackets.reached])
        return plan

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> "BracketBilinear":
        return BracketBilinear.of(self, irreps_1, irreps_2, irreps_keep)


def bracket_law(left: e3nn.Irrep, right: e3nn.Irrep, out: e3nn.Irrep) -> float:
    """Coupling of the bracket; parities multiply."""
    return bracket_coupling(left.l, right.l, out.l) if out.p == left.p * right.p else 0.0


def bracket_table(irreps: e3nn.Irreps, right: e3nn.Irrep, out: e3nn.Irrep) -> np.ndarray:
    """⟨{A, B} Y_out⟩ of harmonics A of some irreps and B of one [components of A, of B, of Y_out]."""
    return np.concatenate([bracket_coupling(left.ir.l, right.l, out.l) * clebsch_gordan(left.ir.l, right.l, out.l) for left in irreps])


@dataclasses.dataclass(frozen=True)
class BracketBilinear(FixedBilinear):
    """Tensors from the pointwise product, pseudo-tensors from the bracket, at the same points."""

    @functools.cached_property
    def _rule(self) -> Quadrature:
        return quadrature(sum(max(irrep.ir.l for irrep in irreps) for irreps in (self.irreps_1, self.irreps_2, self.irreps_out)))

    @functools.cached_property
    def _outs(self) -> dict[str, e3nn.Irreps]:
        """Outputs of each of the two kinds of products; a kind without outputs is left out."""
        natural, pseudo = ([irrep for irrep in self.irreps_out if is_natural(irrep.ir) == wanted] for wanted in (True, False))
        return {kind: e3nn.Irreps(outs) for kind, outs in (("product", natural), ("bracket", pseudo)) if outs}

    def _samples(self, irreps: e3nn.Irreps) -> dict[str, tuple[np.ndarray, ...]]:
        """For each kind its tables [points, components]: values; the two components of r × ∇."""
        l_max, rows = max(irrep.ir.l for irrep in irreps), rows_of_harmonics(irreps)
        tables = {"product": (harmonics(self._rule.points, l_max),), "bracket": rotational_derivatives(self._rule.points, l_max)}
        return {kind: tuple(np.ascontiguousarray(table[:, rows]) for table in tables[kind]) for kind in self._outs}

    @functools.cached_property
    def _factor_tables(self) -> tuple[dict[str, tuple[np.ndarray, ...]], dict[str, tuple[np.ndarray, ...]]]:
        return self._samples(self.irreps_1), self._samples(self.irreps_2)

    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        blocks = {}
        for kind, outs in self._outs.items():
            left, right = ([table_map(table)(x) for table in tables[kind]] for tables, x in zip(self._factor_tables, (first, second)))
            values = left[0] * right[0] if kind == "product" else left[0] * right[1] - left[1] * right[0]
            blocks |= split_irreps(table_map(self._projection(outs))(values), outs)
        return jnp.concatenate([blocks[irrep.ir] for irrep in self.irreps_out])

    def _projection(self, outs: e3nn.Irreps) -> np.ndarray:
        table = harmonics(self._rule.points, max(irrep.ir.l for irrep in outs)).T * self._rule.weights
        return np.ascontiguousarray(table[rows_of_harmonics(outs)])


@dataclasses.dataclass(frozen=True)
class BracketPowers(Powers):
    """B_l = Σ_ν Σ_l' W[Z, ν, l, l'] P_l(A^(ν-2) {A, A_l'}) for pseudo-tensors l, A_l' being the part of A of degree l'.

    The bracket of a function with itself vanishes, so that the degrees l' of the second factor have weights. Scalars have no
    gradient, and the next degree is left out because the brackets with all degrees add up to {A, A} = 0.
    Weights are ordered by order ν, output irrep, l'.
    """

    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    correlation: int

    @functools.cached_property
    def _values(self) -> np.ndarray:
        """Harmonics at the points of an exact rule [points, components]."""
        return harmonics(self._rule.points, max(irrep.ir.l for irrep in self.irreps_in))[:, rows_of_harmonics(self.irreps_in)]

    @functools.cached_property
    def _derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Their two tangential derivatives [points, components]."""
        first, second = rotational_derivatives(self._rule.points, max(irrep.ir.l for irrep in self.irreps_in))
        rows = rows_of_harmonics(self.irreps_in)
        return first[:, rows], second[:, rows]

    @functools.cached_property
    def _rule(self) -> Quadrature:
        l_in, l_out = (max(irrep.ir.l for irrep in irreps) for irreps in (self.irreps_in, self.irreps_out))
        return quadrature(self.correlation * l_in + l_out)

    @functools.cached_property
    def _projections(self) -> dict[e3nn.Irrep, np.ndarray]:
        """For every pseudo-tensor of the output [components, points]."""
        pseudo = [irrep.ir for irrep in self.irreps_out if not is_natural(irrep.ir)]
        tables = {irrep: harmonics(self._rule.points, irrep.l)[:, irrep.l**2 :].T * self._rule.weights for irrep in pseudo}
        return {irrep: np.ascontiguousarray(table) for irrep, table in tables.items()}

    def chains(self) -> dict[BasisTerm, Steps]:
        """For every order, output and position of l' in irreps_in. More vanish than degrees and parities tell: a bracket has no mean."""
        return {
            (order, irrep, i): [(e3nn.Irreps([self.irreps_in[i]]), bracket_law)] + [(self.irreps_in, gaunt_law)] * (order - 2)
            for order in range(2, self.correlation + 1)
            for irrep in self._projections
            for i in self._second_factors
        }

    @property
    def _second_factors(self) -> list[int]:
        """Positions of l' in irreps_in."""
        return [i for i, irrep in enumerate(self.irreps_in) if irrep.ir.l > 0][1:]

    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> list[list[Term]]:
        """By A^(ν-2) {A, A_l'} = {A^(ν-1), A_l'} / (ν-1): a sparse coupling for each term instead of brackets at the points."""
        powers, parts = {2: list(feats)} | self._lower_powers(builder, feats), []
        for weight, ((order, irrep, l_prime), norm) in zip(weights, self._norms.items(), strict=True):
            left = self.irreps_in if order == 2 else self._bracket_partners
            table = norm / (order - 1) * bracket_table(left, irreps_of(self.irreps_in)[l_prime], irrep)
            values = bilinear_map(builder, table, powers[order], feats[self.irreps_in.slices()[l_prime]])
            parts.append((irrep, weight, values))
        return weighted_terms(self.irreps_out, parts)

    @functools.cached_property
    def _bracket_partners(self) -> e3nn.Irreps:
        """Harmonics whose brackets with the parts A_l' reach an output."""
        degrees = [irreps_of(self.irreps_in)[i].l for i in self._second_factors]
        pairs = list(itertools.product(degrees, self._projections))
        highest = max(degrees) + max(irrep.l for irrep in self._projections)
        partners = [l for l in range(highest + 1) if any(bracket_coupling(l, l_prime, irrep.l) for l_prime, irrep in pairs)]
        return e3nn.Irreps([(1, (l, (-1) ** l)) for l in partners])

    def _lower_powers(self, builder: Builder, feats: Sequence[int]) -> dict[int, list[int]]:
        """For every order above 2 the power A^(order-1), projected on the partners."""
        orders = sorted({order - 1 for order, _, _ in self._norms if order > 2})
        if not orders:
            return {}
        l_max = max(irrep.ir.l for irrep in self._bracket_partners)
        projection = (harmonics(self._rule.points, l_max).T * self._rule.weights)[rows_of_harmonics(self._bracket_partners)]
        powers = sampled_powers(builder, feats, Samples(self._values, projection), orders)
        return {order + 1: power for order, power in powers.items()}

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        return self._weighted_sum(self._parts(weights[:, species], node_feats), node_feats)

    def _parts(self, node_weights: jax.Array, node_feats: jax.Array) -> Iterator[tuple[e3nn.Irrep, jax.Array, jax.Array]]:
        """Output irrep, weight and projected bracket of every term."""
        values, powers = table_map(self._values)(node_feats), self._brackets(node_feats)
        reached_order = 2
        for weight, ((order, irrep, l_prime), norm) in zip(node_weights, self._norms.items(), strict=True):
            while reached_order < order:
                powers = {position: power * values for position, power in powers.items()}
                reached_order += 1
            yield irrep, weight, table_map(norm * self._projections[irrep])(powers[l_prime])

    def _brackets(self, node_feats: jax.Array) -> dict[int, jax.Array]:
        """{A, A_l'} at the points [points, nodes, channels] for every position of l'."""
        blocks = zip(self.irreps_in.slices(), split_irreps(node_feats, self.irreps_in).values())
        parts = [tuple(table_map(np.ascontiguousarray(table[:, rows]))(block) for table in self._derivatives) for rows, block in blocks]
        first, second = (sum(part) for part in zip(*parts))
        return {i: first * parts[i][1] - second * parts[i][0] for i in self._second_factors}
