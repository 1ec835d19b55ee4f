"""Equivariant product basis: symmetric powers of the A-basis with element-dependent weights, then a linear map."""

import jax
import jax.numpy as jnp
from flax import nnx

from mace_tp.nn.linear import Linear
from mace_tp.tensor_products.base import ProductBasisPlan


class ProductBasis(nnx.Module):
    """B-basis of a layer (Batatia et al. 2022, MACE, eqs. 10 and 11)."""

    def __init__(self, plan: ProductBasisPlan, channels: int, num_species: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.plan = plan
        scales = jnp.array(plan.weight_scales, dtype)[:, None, None]
        self.weights = nnx.Param(scales * jax.random.normal(rngs.params(), (plan.num_weights, num_species, channels), dtype))
        self.linear = Linear(plan.irreps_out, plan.irreps_out, channels, dtype=dtype, rngs=rngs)

    def __call__(self, node_feats: jax.Array, species: jax.Array, residual: jax.Array) -> jax.Array:
        """A-basis [components, nodes, channels] → features [irreps_out.dim, nodes, channels]."""
        return self.linear(self.plan(self.weights[...], node_feats, species)) + residual
