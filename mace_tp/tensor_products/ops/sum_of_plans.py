"""A product basis that is the sum of several, each with weights of its own."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.kernels.polynomial import Builder, Term
from mace_tp.tensor_products.ops.polynomial_basis import PolynomialBasis


@dataclasses.dataclass(frozen=True)
class SumOfPlans(PolynomialBasis):
    """Plans with the same irreps and correlation, added up. Weights follow each other, plan by plan."""

    plans: tuple[PolynomialBasis, ...]

    @property
    def irreps_in(self) -> e3nn.Irreps:
        return self.plans[0].irreps_in

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return self.plans[0].irreps_out

    @property
    def correlation(self) -> int:
        return max(plan.correlation for plan in self.plans)

    @property
    def weight_scales(self) -> tuple[float, ...]:
        return sum((plan.weight_scales for plan in self.plans), ())

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        parts = zip(self.plans, self._split(weights), strict=True)
        return functools.reduce(jnp.add, [plan(part, node_feats, species) for plan, part in parts])

    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> list[list[Term]] | None:
        """One polynomial for all plans: it reads the features once, and keeps sums that several plans need once."""
        parts = [plan.polynomial_terms(builder, part, feats) for plan, part in zip(self.plans, self._split(weights), strict=True)]
        if any(part is None for part in parts):
            return None
        return [[term for terms in components for term in terms] for components in zip(*parts, strict=True)]

    def polynomial_weights(self, weights: jax.Array) -> jax.Array:
        parts = zip(self.plans, self._split(weights), strict=True)
        return jnp.concatenate([plan.polynomial_weights(part) for plan, part in parts])

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        parts = [plan.coefficients(part) for plan, part in zip(self.plans, self._split(weights), strict=True)]
        total = np.zeros((max(map(len, parts)), *weights.shape[1:]))
        for part in parts:  # couplings are sorted by order, so that a plan of lower correlation has the first of them
            total[: len(part)] += part
        return total

    def _split(self, weights: Any) -> list[Any]:
        """The weights of each plan, of anything with the weights along its first axis."""
        ends = np.cumsum([plan.num_weights for plan in self.plans])
        return [weights[end - plan.num_weights : end] for plan, end in zip(self.plans, ends)]
