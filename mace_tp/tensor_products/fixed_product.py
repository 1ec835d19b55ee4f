"""A tensor product whose couplings are fixed, so that only degrees have weights."""

import e3nn_jax as e3nn

from mace_tp.tensor_products.base import InteractionPlan, TensorProduct
from mace_tp.tensor_products.cg import CGInteraction
from mace_tp.tensor_products.degree_weighted import DegreeWeighted
from mace_tp.tensor_products.fixed_couplings import FixedCouplings
from mace_tp.tensor_products.sum_of_products import SumOfProducts


class FixedProduct(FixedCouplings, TensorProduct):
    """A subclass gives its table and couplings, and its product basis; the interaction follows."""

    @property
    def num_terms(self) -> int:
        """How many products with weights of their own the interaction is the sum of."""
        return 1

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        # With one irrep on a side the weights of the other side's degrees are all that there is.
        if self.num_terms == 1 or len(irreps_node) == 1:
            return DegreeWeighted(self, irreps_node, irreps_edge, irreps_keep)
        plan = SumOfProducts(self, irreps_node, irreps_edge, irreps_keep, self.num_terms)
        if plan.dof() < len(plan.paths()):
            return plan
        # As free as a weight for every path, which then takes fewer operations.
        return CGInteraction(irreps_node, irreps_edge, irreps_keep, plan.paths())
