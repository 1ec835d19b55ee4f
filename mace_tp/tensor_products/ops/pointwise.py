"""Product basis by pointwise powers: features as a function at sample points, multiplied there, and projected back.

The values stay at the sample points between the multiplications. `spherical_grid` samples the sphere, `gaunt` the torus of its
Fourier series; the map is the same.
"""

import abc
import dataclasses
import functools
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.errors import InputError
from mace_tp.kernels.polynomial import Builder, Term
from mace_tp.tensor_products.algebra.closed_forms import gaunt_coupling
from mace_tp.tensor_products.algebra.coordinates import BasisTerm, in_order, start_scale
from mace_tp.tensor_products.algebra.irreps import is_natural, parity_mask, require_harmonics, rows_of, rows_of_harmonics, split_irreps
from mace_tp.tensor_products.algebra.sampling import Sampler, Samples, SphereSampler
from mace_tp.tensor_products.algebra.symmetric_basis import symmetric_basis
from mace_tp.tensor_products.base import require_reached
from mace_tp.tensor_products.fixed_product import FixedBilinear, FixedProduct
from mace_tp.tensor_products.ops.polynomials import coupled_squares, sampled_powers, weighted_terms
from mace_tp.tensor_products.ops.powers import Powers, Steps
from mace_tp.tensor_products.ops.table_map import table_map
from mace_tp.tensor_products.plans import ProductBasisPlan


def gaunt_law(left: e3nn.Irrep, right: e3nn.Irrep, out: e3nn.Irrep) -> float:
    """Coupling of the pointwise product; parities multiply."""
    return gaunt_coupling(left.l, right.l, out.l) if out.p == left.p * right.p else 0.0


@dataclasses.dataclass(frozen=True)
class PointwiseProduct(FixedProduct):
    """Gaunt tensor product: functions on the sphere, multiplied point by point. A subclass chooses the points."""

    # Number of products that are added up, each with degree weights of its own.
    rank: int = dataclasses.field(default=1, metadata={"examples": (2,)})

    def __post_init__(self) -> None:
        if type(self.rank) is not int or self.rank < 1:
            raise InputError(f"tensor_product: rank of {self.name} must be a whole number of at least 1, got {self.rank!r}")

    @property
    @abc.abstractmethod
    def sampler(self) -> Sampler:
        """The points at which functions are sampled."""

    @property
    def num_terms(self) -> int:
        return self.rank

    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        return gaunt_law(irrep_1, irrep_2, irrep_out)

    def table(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
        l_in, l_out = (max(irrep.ir.l for irrep in irreps) for irreps in (irreps_1 + irreps_2, irreps_out))
        samples = self.sampler.samples(l_in, l_out, order=2)
        factors = [samples.values[:, rows_of_harmonics(irreps)] for irreps in (irreps_1, irreps_2)]
        table = np.einsum("pi,pj,mp->ijm", *factors, samples.projection[rows_of_harmonics(irreps_out)], optimize=True)
        return table * parity_mask(irreps_1, irreps_2, irreps_out)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        plan = PointwisePowers(self.sampler, irreps_in, irreps_out, correlation, self.rank)
        require_reached(self.name, plan, plan.reached)
        return plan

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> "PointwiseBilinear":
        if self.rank > 1:
            reason = "a sum of products differs from one product by weights, which a bilinear map does not have"
            raise InputError(f"rank {self.rank} of {self.name}: {reason}")
        return PointwiseBilinear.of(self, irreps_1, irreps_2, irreps_keep)


@dataclasses.dataclass(frozen=True)
class PointwiseBilinear(FixedBilinear):
    """P(x(p) y(p)): both features as functions, multiplied at the sample points, and projected."""

    product: PointwiseProduct

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values of both features' harmonics [points, components], projection [components, points]."""
        l_in, l_out = (max(irrep.ir.l for irrep in irreps) for irreps in (self.irreps_1 + self.irreps_2, self.irreps_out))
        samples = self.product.sampler.samples(l_in, l_out, order=2)
        values = (np.ascontiguousarray(samples.values[:, rows_of_harmonics(irreps)]) for irreps in (self.irreps_1, self.irreps_2))
        return *values, np.ascontiguousarray(samples.projection[rows_of_harmonics(self.irreps_out)])

    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        of_first, of_second, projection = map(table_map, self._tables)
        return projection(of_first(first) * of_second(second))


@dataclasses.dataclass(frozen=True)
class PointwisePowers(Powers):
    """B_l = Σ_ν Σ_r W[Z, ν, l, r] P_l(A_r^ν), A_r(p) = Σ_l v[Z, r, l] A_l · Y_l(p). With rank one, v is one and no weight.

    Weights are ordered: v by r and l (if the rank is above one), then W by order ν, output irrep, r. The first order is the
    features themselves, so that it has one weight for each output irrep.

    Source: Luo et al. 2024 (Gaunt tensor products), and for pointwise products on a grid Xie et al. 2025.
    """

    sampler: Sampler
    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    correlation: int
    rank: int = 1
    first_order: int = 1  # another plan computes the lower orders

    def __post_init__(self) -> None:
        require_harmonics(self.irreps_in)

    @functools.cached_property
    def terms(self) -> tuple[BasisTerm, ...]:
        """Orders and output irreps that have weights."""
        return tuple(self.chains())

    def chains(self) -> dict[BasisTerm, Steps]:
        repeated = self._repeated(gaunt_law)
        return {term: steps for term, steps in repeated.items() if term[0] >= self.first_order and self._couples(*term)}

    def _couples(self, order: int, irrep: e3nn.Irrep) -> bool:
        """Whether factors of some degrees reach the output; at each multiplication the sum of the degrees is even."""
        degrees = {factor.ir.l for factor in self.irreps_in}
        reach = degrees
        for _ in range(order - 1):
            reach = {l for left in reach for right in degrees for l in range(abs(left - right), left + right + 1, 2)}
        return is_natural(irrep) and irrep.l in reach

    @functools.cached_property
    def _higher(self) -> tuple[int, ...]:
        """Orders that need sample points."""
        return tuple(sorted({order for order, _ in self.terms if order > 1}))

    @functools.cached_property
    def _samples(self) -> Samples:
        return self._of_irreps(self.sampler)

    def _of_irreps(self, sampler: Sampler) -> Samples:
        """Tables of the irreps in use: values at the points [points, components], projections [components, points]."""
        outs = e3nn.Irreps([(1, irrep) for irrep in self.reached])
        samples = sampler.samples(max(irrep.ir.l for irrep in self.irreps_in), max(out.ir.l for out in outs), self.correlation)
        return Samples(
            np.ascontiguousarray(samples.values[:, rows_of_harmonics(self.irreps_in)]),
            np.ascontiguousarray(samples.projection[rows_of_harmonics(outs)]),
        )

    @property
    def _num_factors(self) -> int:
        return self.rank * len(self.irreps_in) if self.rank > 1 else 0

    @functools.cached_property
    def weight_scales(self) -> tuple[float, ...]:
        return tuple([1.0] * self._num_factors + [start_scale(order) for order, _ in self.terms for _ in range(self._count(order))])

    @functools.cached_property
    def _weight_norms(self) -> np.ndarray:
        """For each weight the factor that scales the function beside it to size one in the symmetric basis, the size of `cg`'s couplings.

        P_l(A^ν) has the squared size ½ ∫ P_l(t) K(t)^ν dt with K(t) = Σ_l' (2l'+1) P_l'(t), the harmonics' reproducing kernel.
        """
        nodes, node_weights = np.polynomial.legendre.leggauss(self.correlation * max(irrep.ir.l for irrep in self.irreps_in) + 1)
        kernel = sum(irrep.ir.dim * _legendre(irrep.ir.l, nodes) for irrep in self.irreps_in)
        norms = [1.0] * self._num_factors
        for order, irrep in self.terms:
            squared_size = node_weights @ (_legendre(irrep.l, nodes) * kernel**order) / 2
            norms += [(squared_size * self._count(order)) ** -0.5] * self._count(order)
        return np.array(norms)

    @functools.cached_property
    def _rows(self) -> dict[e3nn.Irrep, slice]:
        """Rows of each reached irrep in the projection."""
        irreps = self.reached
        ends = np.cumsum([irrep.dim for irrep in irreps]).tolist()
        return {irrep: slice(end - irrep.dim, end) for irrep, end in zip(irreps, ends)}

    def polynomial_weights(self, weights: jax.Array) -> jax.Array:
        return weights * self._weight_norms.astype(weights.dtype)[:, None, None]

    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> list[list[Term]]:
        own, parts = rows_of(self.irreps_in), []
        projections = [self._coupled_powers(builder, weights, feats, r) for r in range(self.rank)] if self._higher else []
        for order, irrep in self.terms:
            values = [feats[own[irrep]]] if order == 1 else [projected[order][self._rows[irrep]] for projected in projections]
            parts += [(irrep, value) for value in values]
        weighted = zip(weights[self._num_factors :], parts, strict=True)
        return weighted_terms(self.irreps_out, [(irrep, weight, values) for weight, (irrep, values) in weighted])

    def _coupled_powers(self, builder: Builder, weights: Sequence[int], feats: Sequence[int], r: int) -> dict[int, list[int]]:
        """The projections for r. All samplers use the points of the sphere here: these are the fewest, and the function is the same."""
        samples = self._of_irreps(SphereSampler())
        if self.rank > 1:
            factors = np.repeat(weights[r * len(self.irreps_in) :][: len(self.irreps_in)], [irrep.ir.dim for irrep in self.irreps_in])
            feats = [builder.add([Term(1.0, pair)]) for pair in zip(factors.tolist(), feats, strict=True)]
        if self._higher == (2,):
            return {2: coupled_squares(builder, feats, samples)}
        return sampled_powers(builder, feats, samples, self._higher)

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        node_weights = self.polynomial_weights(weights)[:, species]
        inputs = split_irreps(node_feats, self.irreps_in)
        projections = self._projected_powers(node_weights, node_feats)
        values = []
        for order, irrep in self.terms:
            terms = [inputs[irrep]] if order == 1 else [projected[order][self._rows[irrep]] for projected in projections]
            values += [(irrep, term) for term in terms]
        return self._weighted_sum(((irrep, node_weights[i], term) for i, (irrep, term) in enumerate(values, self._num_factors)), node_feats)

    def _projected_powers(self, node_weights: jax.Array, node_feats: jax.Array) -> list[dict[int, jax.Array]]:
        """For each r the projections [components, nodes, channels] of every order above one."""
        if not self._higher:
            return []
        to_points, project = table_map(self._samples.values), table_map(self._samples.projection)
        projections = []
        for r in range(self.rank):
            values = to_points(self._weighted(node_weights, node_feats, r))
            power, projected = values, {}
            for order in range(2, self._higher[-1] + 1):
                power = power * values
                if order in self._higher:
                    projected[order] = project(power)
            projections.append(projected)
        return projections

    def _weighted(self, node_weights: jax.Array, node_feats: jax.Array, r: int) -> jax.Array:
        """Features times v[r]."""
        if self.rank == 1:
            return node_feats
        first = r * len(self.irreps_in)
        factors = [node_weights[first + i] for i, irrep in enumerate(self.irreps_in) for _ in range(irrep.ir.dim)]
        return node_feats * jnp.stack(factors)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        weights = np.asarray(weights)
        factors = weights[: self._num_factors].reshape(-1, len(self.irreps_in), *weights.shape[1:])
        terms, weight = {}, self._num_factors
        for order, irrep in self.terms:
            count = self._count(order)
            strengths = weights[weight : weight + count][:, None] / count**0.5
            if count > 1:
                positions = symmetric_basis(self.irreps_in, irrep, order).factors
                strengths = strengths * np.stack([factors[:, list(position)].prod(axis=1) for position in positions], axis=1)
            terms[order, irrep] = (self._units[order, irrep].reshape(-1, *[1] * (weights.ndim - 1)) * strengths).sum(axis=0)
            weight += count
        return in_order((self.irreps_in, self.irreps_out, self.correlation), terms, weights.shape[1:])

    def _count(self, order: int) -> int:
        """Weights of one order and output irrep."""
        return 1 if order == 1 else self.rank


def _legendre(degree: int, nodes: np.ndarray) -> np.ndarray:
    return np.polynomial.legendre.Legendre.basis(degree)(nodes)
