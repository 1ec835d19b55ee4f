"""Harmonics, derivatives and exact quadrature on the unit sphere, as numpy float64 tables.

Harmonics are real, in e3nn's order (polar axis y), component-normalized: Σ_m Y_lm² = 2l+1. The measure is dΩ/4π, under which
they are orthonormal.
"""

import dataclasses
import functools

import numpy as np

from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan

# Degrees of Lebedev's rules with positive weights, as far as they are needed; 13, 25 and 27 have negative weights.
_LEBEDEV_DEGREES = (3, 5, 7, 9, 11, 15, 17, 19, 21, 23, 29, 31, 35, 41)


@dataclasses.dataclass(frozen=True, eq=False)
class Quadrature:
    """A rule that integrates polynomials up to a degree exactly."""

    points: np.ndarray  # [points, 3], on the unit sphere
    weights: np.ndarray  # [points], sum 1


@functools.cache
def quadrature(degree: int) -> Quadrature:
    """The rule with the fewest points, Lebedev's or the product grid, that has positive weights and is exact up to `degree`.

    The transforms are dense, so that only the number of points matters (`benchmarks/benchmark_transforms.py`).
    """
    lebedev = next((order for order in _LEBEDEV_DEGREES if order >= degree), None)
    product = product_grid(degree)
    if degree == 0 or lebedev is None:
        return product
    import scipy.integrate  # takes longer to load than all products

    points, weights = scipy.integrate.lebedev_rule(lebedev)
    return Quadrature(points.T, weights / (4 * np.pi)) if len(weights) <= len(product.weights) else product


def product_grid(degree: int) -> Quadrature:
    """Gauss-Legendre nodes in cos θ times equal steps in φ: ⌊D/2⌋+1 times D+1 points, the fewest that are exact for degree D."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    angles = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    points = from_angles(np.arccos(nodes)[:, None], angles[None, :])
    return Quadrature(points.reshape(-1, 3), np.repeat(weights / 2, degree + 1) / (degree + 1))


def from_angles(theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Unit vectors [..., 3] at polar angle θ from y and azimuth φ from z; θ may go once around."""
    return np.stack(np.broadcast_arrays(np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)), axis=-1)


def harmonics(points: np.ndarray, l_max: int) -> np.ndarray:
    """Harmonics [points, (l_max+1)²] at unit vectors [points, 3]; each degree is made from the one before by coupling with l = 1."""
    blocks = [np.ones((len(points), 1)), np.sqrt(3) * points]
    for coupling in harmonic_couplings(l_max):
        blocks.append(np.einsum("pi,pj,ijk->pk", blocks[-1], blocks[1], coupling, optimize=True))
    return np.concatenate(blocks[: l_max + 1], axis=1)


@functools.cache
def harmonic_couplings(l_max: int) -> tuple[np.ndarray, ...]:
    """Tensors [2l-1, 3, 2l+1] for l = 2 .. l_max that couple harmonics of degrees l-1 and 1 to harmonics of degree l.

    On the axis y the harmonics of degree l are sqrt(2l+1) for m = 0 and zero for every other m; this fixes the factor.
    """
    couplings = []
    for l in range(2, l_max + 1):
        coupling = clebsch_gordan(l - 1, 1, l)
        couplings.append(coupling * np.sqrt((2 * l + 1) / (3 * (2 * l - 1))) / coupling[l - 1, 1, l])
    return tuple(couplings)


def rotational_derivatives(points: np.ndarray, l_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Two components of r × ∇Y [points, (l_max+1)²], along tangents t1 and t2 with t1 × t2 = r. Regular everywhere.

    The bracket r·(∇A × ∇B) is A1 B2 - A2 B1 in these components, because turning both gradients by 90° does not change it.
    r × ∇ acts on the coefficients of a degree as the generators of rotation.
    """
    values = harmonics(points, l_max)
    blocks = []
    for l in range(l_max + 1):
        generators = np.sqrt(l * (l + 1) * (2 * l + 1)) * clebsch_gordan(1, l, l)
        blocks.append(np.einsum("pm,kmn->kpn", values[:, l * l : (l + 1) ** 2], generators))
    derivatives = np.concatenate(blocks, axis=2)
    # Any tangent will do; this one is perpendicular to the axis that is farthest from the point.
    axes = np.eye(3)[np.argmin(np.abs(points), axis=1)]
    first = np.cross(axes, points)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(points, first)
    return np.einsum("pk,kpn->pn", first, derivatives), np.einsum("pk,kpn->pn", second, derivatives)
