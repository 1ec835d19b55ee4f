"""Clebsch-Gordan in the interaction and for pairs, where it is cheap; the spherical grid for the high orders of the product basis."""

import dataclasses
from typing import ClassVar

import e3nn_jax as e3nn

from mace_tp.tensor_products.algebra.sampling import SphereSampler
from mace_tp.tensor_products.base import TensorProduct, require_reached
from mace_tp.tensor_products.cg import CG, CGProductBasis
from mace_tp.tensor_products.ops.pointwise import PointwisePowers
from mace_tp.tensor_products.ops.sum_of_plans import SumOfPlans
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan, ProductBasisPlan

# The highest order that Clebsch-Gordan computes.
_CG_ORDER = 2


@dataclasses.dataclass(frozen=True)
class Hybrid(TensorProduct):
    """`cg` in the interaction and for pairs in the product basis, `spherical_grid` for three factors and more."""

    name: ClassVar[str] = "hybrid"

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        return CG().interaction(irreps_node, irreps_edge, irreps_keep)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        pairs = CGProductBasis(irreps_in, irreps_out, min(correlation, _CG_ORDER))
        higher = PointwisePowers(SphereSampler(), irreps_in, irreps_out, correlation, first_order=_CG_ORDER + 1)
        is_sum = correlation > _CG_ORDER
        plan = SumOfPlans((pairs, higher) if is_sum else (pairs,))
        require_reached(self.name, plan, [*pairs.reached, *(higher.reached if is_sum else ())])
        return plan

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BilinearPlan:
        return CG().bilinear(irreps_1, irreps_2, irreps_keep)
