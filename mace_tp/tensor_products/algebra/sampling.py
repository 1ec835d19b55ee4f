"""Sample points for functions on the sphere, and their tables."""

import abc
import dataclasses

import numpy as np

from mace_tp.tensor_products.algebra.sphere import harmonics, quadrature


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Tables between the coefficients of a function in harmonics of degree 0, 1, 2, ... and its samples."""

    values: np.ndarray  # [points, (l_in+1)²], float64: harmonics at the points
    projection: np.ndarray  # [(l_out+1)², points], float64: ⟨f Y_lm⟩ over the sphere from samples of f


class Sampler(abc.ABC):
    """Chooses sample points. Hashable, because plans hold one."""

    @abc.abstractmethod
    def samples(self, l_in: int, l_out: int, order: int) -> Samples:
        """Tables for which the projection on degrees ≤ l_out of products of `order` functions of degree ≤ l_in is exact."""


@dataclasses.dataclass(frozen=True)
class SphereSampler(Sampler):
    """The points of the smallest exact quadrature rule on the sphere."""

    excess: int = 0  # degrees beyond the exact one; for tests, which see a coarser rule fail

    def samples(self, l_in: int, l_out: int, order: int) -> Samples:
        rule = quadrature(max(order * l_in + l_out + self.excess, 0))
        return Samples(harmonics(rule.points, l_in), harmonics(rule.points, l_out).T * rule.weights)
