"""Gaunt tensor product through the two-dimensional Fourier basis.

With the polar angle going once around, harmonics are trigonometric polynomials on a torus, Y_lm(θ, φ) = Σ_uv y[lm, u, v]
e^{i(uθ + vφ)} with |u| ≤ l and |v| ≤ l; their product is a convolution of coefficients, and ⟨e^{i(uθ + vφ)} Y_lm⟩ over the
sphere projects it back. By the convolution theorem the product is taken between two discrete Fourier transforms.

Source: Luo et al. 2024, "Enabling efficient equivariant operations in the Fourier basis via Gaunt tensor products".
"""

import dataclasses
from typing import ClassVar

import numpy as np

from mace_tp.tensor_products.algebra.sampling import Sampler, Samples
from mace_tp.tensor_products.algebra.sphere import from_angles, harmonics
from mace_tp.tensor_products.ops.pointwise import PointwiseProduct


@dataclasses.dataclass(frozen=True)
class TorusSampler(Sampler):
    """Equal steps in both angles of the torus, as many as its Fourier series needs.

    Series and transforms are merged into one real table for each direction, which is faster here than FFTs of this size or direct
    convolution (`benchmarks/benchmark_transforms.py`). A function of the sphere has f(-θ, φ+π) = f(θ, φ), so that half of the torus is
    enough. In this form the product uses a grid with equal steps in θ, which needs about twice the points of `spherical_grid`.
    """

    excess: int = 0  # steps beyond the exact number; for tests, which see a coarser torus fail

    def samples(self, l_in: int, l_out: int, order: int) -> Samples:
        bandwidth = order * l_in
        # θ at half steps avoids the poles; with n of them in (0, π) all |u| < n are resolved. Of v only |v| ≤ l_out are needed.
        num_theta, num_phi = bandwidth + 1 + self.excess, bandwidth + l_out + 1 + self.excess
        theta = np.pi * (np.arange(num_theta) + 0.5) / num_theta
        phi = 2 * np.pi * np.arange(num_phi) / num_phi
        points = from_angles(theta[:, None], phi[None, :]).reshape(-1, 3)
        projection = _fourier_projection(bandwidth, l_out) @ _half_torus_transform(theta, phi, bandwidth, l_out)
        return Samples(harmonics(points, l_in), np.ascontiguousarray(projection.real))


def _half_torus_transform(theta: np.ndarray, phi: np.ndarray, max_u: int, max_v: int) -> np.ndarray:
    """Samples on the half torus → Fourier coefficients [(u, v), points], |u| ≤ max_u, |v| ≤ max_v."""
    u, v = np.arange(-max_u, max_u + 1), np.arange(-max_v, max_v + 1)
    along_phi = np.exp(-1j * np.outer(v, phi)) / len(phi)
    # The other half has f_v(-θ) = (-1)^v f_v(θ).
    here, mirrored = np.exp(-1j * np.outer(u, theta)), np.exp(1j * np.outer(u, theta))
    along_theta = (here[:, None] + (-1.0) ** v[:, None] * mirrored[:, None]) / (2 * len(theta))
    return np.einsum("uva,vb->uvab", along_theta, along_phi).reshape(len(u) * len(v), -1)


def _fourier_projection(max_u: int, l_max: int) -> np.ndarray:
    """⟨e^{i(uθ + vφ)} Y_lm⟩ over the sphere [lm, (u, v)], |u| ≤ max_u, |v| ≤ l_max.

    The series of Y_lm is read off the torus; ∫ e^{inθ} sin θ dθ from 0 to π is 2/(1-n²) for even n, ±iπ/2 for n = ±1, else 0.
    """
    size = 2 * l_max + 1
    angles = 2 * np.pi * np.arange(size) / size
    values = harmonics(from_angles(angles[:, None], angles[None, :]).reshape(-1, 3), l_max)
    k = np.arange(-l_max, l_max + 1)
    transform = np.exp(-1j * np.outer(k, angles)) / size
    series = np.einsum("ua,vb,abl->luv", transform, transform, values.reshape(size, size, -1), optimize=True)
    n = np.arange(-max_u, max_u + 1)[:, None] + k
    even = np.where(n % 2 == 0, 2 / np.where(n % 2 == 0, 1 - n**2, 1), 0)
    integrals = even + 0.5j * np.pi * (np.abs(n) == 1) * np.sign(n)
    # The mean over φ of e^{i(v + v')φ} leaves v' = -v; the measure is sin θ dθ dφ / 4π.
    return 0.5 * np.einsum("uw,lwv->luv", integrals, series[:, :, ::-1]).reshape((l_max + 1) ** 2, -1)


@dataclasses.dataclass(frozen=True)
class Gaunt(PointwiseProduct):
    """Gaunt tensor product on the torus of the Fourier basis."""

    name: ClassVar[str] = "gaunt"

    @property
    def sampler(self) -> Sampler:
        return TorusSampler()
