"""A product basis that is written as a sparse polynomial, term by term."""

import abc
from collections.abc import Sequence

import jax

from mace_tp.kernels.polynomial import Builder, Operand, Term
from mace_tp.tensor_products.plans import ProductBasisPlan, WeightedPolynomial


class PolynomialBasis(ProductBasisPlan):
    """A subclass writes its terms into a builder, which several plans can share."""

    @abc.abstractmethod
    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> list[list[Term]] | None:
        """For each component of the output the terms that add up to it; None if there is no such form.

        Args:
            builder: of the polynomial; collects the sums that the terms are made of.
            weights: numbers of the weights of the node's element, after `polynomial_weights`.
            feats: numbers of the components of the node's features.
        """

    def polynomial_weights(self, weights: jax.Array) -> jax.Array:
        """Weights of the polynomial [num_weights, elements, channels] from those of the plan."""
        return weights

    def polynomial(self) -> WeightedPolynomial | None:
        builder = Builder([Operand(self.num_weights, index=0, values_lead=True), Operand(self.irreps_in.dim, values_lead=True)])
        components = self.polynomial_terms(builder, *builder.inputs)
        if components is None:
            return None
        polynomial = builder.build([Operand(self.irreps_out.dim, values_lead=True)], [[builder.add(terms) for terms in components]])
        return WeightedPolynomial(polynomial, self.polynomial_weights)
