"""Equivariant product basis: symmetric powers of the A-basis with element-dependent weights, then a linear map."""

import jax
import numpy as np
from flax import nnx

from mace_tp.nn.context import LayerContext
from mace_tp.nn.linear import Linear
from mace_tp.tensor_products.plans import ProductBasisPlan


class ProductBasis(nnx.Module):
    """B-basis of a layer (Batatia et al. 2022, MACE, eqs. 10 and 11)."""

    def __init__(self, plan: ProductBasisPlan, context: LayerContext) -> None:
        self.plan = plan
        scales = np.array(plan.weight_scales)[:, None, None]
        self.weights = context.normal((plan.num_weights, context.num_species, context.channels), scales)
        self.linear = Linear(plan.irreps_out, plan.irreps_out, context)

    def __call__(self, node_feats: jax.Array, species: jax.Array, residual: jax.Array) -> jax.Array:
        """A-basis [components, nodes, channels] → features [irreps_out.dim, nodes, channels]."""
        with jax.named_scope("product_basis"):
            basis = self.plan(self.weights[...], node_feats, species)
        return self.linear(basis, species) + residual
