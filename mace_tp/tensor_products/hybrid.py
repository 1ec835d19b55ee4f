"""Clebsch-Gordan where it is cheap and loses nothing, the spherical grid for the high orders of the product basis."""

import dataclasses

import e3nn_jax as e3nn

from mace_tp.tensor_products.algebra.sampling import SphereSampler
from mace_tp.tensor_products.base import BinaryPlan, InteractionPlan, ProductBasisPlan, TensorProduct, require_reached
from mace_tp.tensor_products.cg import CG, CGProductBasis
from mace_tp.tensor_products.ops.pointwise import PointwisePowers
from mace_tp.tensor_products.ops.sum_of_plans import SumOfPlans

# The highest order that is left to Clebsch-Gordan.
_CG_ORDER = 2


@dataclasses.dataclass(frozen=True)
class Hybrid(TensorProduct):
    """`cg` in the interaction and for pairs in the product basis, `spherical_grid` for three factors and more."""

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        return CG().interaction(irreps_node, irreps_edge, irreps_keep)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        pairs = CGProductBasis(irreps_in, irreps_out, min(correlation, _CG_ORDER))
        higher = PointwisePowers(SphereSampler(), irreps_in, irreps_out, correlation, first_order=_CG_ORDER + 1)
        plan = SumOfPlans((pairs, higher) if correlation > _CG_ORDER else (pairs,))
        require_reached("hybrid", plan)
        return plan

    def binary(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BinaryPlan:
        return CG().binary(irreps_1, irreps_2, irreps_keep)
