"""Equivariant product basis: symmetric powers of the A-basis with element-dependent weights, then a linear map."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.random import Generator

from mace_tp.kernels.linear import Mix
from mace_tp.nn.linear import Linear, normal
from mace_tp.tensor_products.plans import ProductBasisPlan


class ProductBasis(nnx.Module):
    """B-basis of a layer (Batatia et al. 2022, MACE, eqs. 10 and 11)."""

    def __init__(self, plan: ProductBasisPlan, channels: int, num_species: int, mix: Mix, *, dtype: jnp.dtype, rng: Generator) -> None:
        self.plan = plan
        scales = np.array(plan.weight_scales)[:, None, None]
        self.weights = normal(rng, (plan.num_weights, num_species, channels), dtype, scales)
        self.linear = Linear(plan.irreps_out, plan.irreps_out, channels, mix, dtype=dtype, rng=rng)

    def __call__(self, node_feats: jax.Array, species: jax.Array, residual: jax.Array) -> jax.Array:
        """A-basis [components, nodes, channels] → features [irreps_out.dim, nodes, channels]."""
        with jax.named_scope("product_basis"):
            basis = self.plan(self.weights[...], node_feats, species)
        return self.linear(basis, species) + residual
