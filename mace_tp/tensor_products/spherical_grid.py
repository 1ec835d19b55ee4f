"""Gaunt tensor product by pointwise products on a spherical grid.

Source: Xie et al. 2025 ("The Price of Freedom").
"""

import dataclasses
from typing import ClassVar

from mace_tp.tensor_products.pointwise import PointwiseProduct, Sampler, Samples
from mace_tp.tensor_products.sphere import harmonics, quadrature


@dataclasses.dataclass(frozen=True)
class SphereSampler(Sampler):
    """The points of the smallest exact quadrature rule on the sphere."""

    excess: int = 0  # degrees beyond the exact one; for tests, which see a coarser rule fail

    def samples(self, l_in: int, l_out: int, order: int) -> Samples:
        rule = quadrature(max(order * l_in + l_out + self.excess, 0))
        return Samples(harmonics(rule.points, l_in), harmonics(rule.points, l_out).T * rule.weights)


@dataclasses.dataclass(frozen=True)
class SphericalGrid(PointwiseProduct):
    """Gaunt tensor product on the sphere. The same map as `gaunt`, from fewer points."""

    name: ClassVar[str] = "spherical_grid"

    @property
    def sampler(self) -> Sampler:
        return SphereSampler()
