"""Gaunt tensor product by pointwise products on a spherical grid.

Source: Xie et al. 2025 ("The Price of Freedom").
"""

import dataclasses
from typing import ClassVar

from mace_tp.tensor_products.algebra.sampling import Sampler, SphereSampler
from mace_tp.tensor_products.ops.pointwise import PointwiseProduct


@dataclasses.dataclass(frozen=True)
class SphericalGrid(PointwiseProduct):
    """Gaunt tensor product on the sphere. The same map as `gaunt`, from fewer points."""

    name: ClassVar[str] = "spherical_grid"

    @property
    def sampler(self) -> Sampler:
        return SphereSampler()
