"""Functions of the length of a pair: Bessel basis, polynomial cutoff, and transforms of the length."""

import jax
import jax.numpy as jnp

# Constants of the Agnesi transform, and steepness of the soft transform, as in ACEsuit's MACE, whose models must be read exactly.
AGNESI_A, AGNESI_Q, AGNESI_P = 1.0805, 0.9183, 4.5791
SOFT_STEEPNESS = 4.0


def bessel_basis(lengths: jax.Array, cutoff: float, num_basis: int) -> jax.Array:
    """Spherical Bessel functions of order zero that vanish at the cutoff.

    Args:
        lengths: edge lengths [...], Å. Zero is allowed.
        cutoff: radius c at which every function is zero, Å.
        num_basis: how many, n = 1 .. num_basis.

    Returns:
        sqrt(2/c) sin(nπr/c) / r [..., num_basis], in Å^(-3/2), normalized over [0, c] with weight r².

    Raises:
        ValueError: cutoff is not positive.

    Source: Gasteiger et al. 2020 (DimeNet), radial basis.
    """
    if cutoff <= 0:
        raise ValueError(f"cutoff must be positive, got {cutoff} Å")
    order = jnp.arange(1, num_basis + 1, dtype=lengths.dtype)
    # sinc(t) = sin(πt)/(πt) is finite, with a finite gradient, at zero length.
    return jnp.sqrt(2 / cutoff) * (order * jnp.pi / cutoff) * jnp.sinc(order * lengths[..., None] / cutoff)


def polynomial_cutoff(lengths: jax.Array, cutoff: float | jax.Array, power: int) -> jax.Array:
    """Envelope that falls from one at r = 0 to zero at the cutoff, where its first two derivatives vanish.

    Args:
        lengths: edge lengths [...], Å.
        cutoff: radius beyond which it is exactly zero, Å; one for all or [...].
        power: p, at least 2; with a larger p the envelope stays near one up to larger lengths.

    Returns:
        1 - (p+1)(p+2)/2 t^p + p(p+2) t^(p+1) - p(p+1)/2 t^(p+2) with t = r/cutoff [...], dimensionless.

    Source: Gasteiger et al. 2020 (DimeNet), envelope function.
    """
    t = lengths / cutoff
    p = float(power)
    envelope = 1 - t**power * ((p + 1) * (p + 2) / 2 - t * (p * (p + 2) - t * p * (p + 1) / 2))
    return jnp.where(t < 1, envelope, 0)


def agnesi_transform(lengths: jax.Array, radii: jax.Array) -> jax.Array:
    """Map lengths to (0, 1], most steeply near the bond length, so that the basis resolves bonds of all elements equally.

    Args:
        lengths: [...], Å. Zero is allowed.
        radii: sum of the covalent radii of both atoms [...], Å.

    Returns:
        1 / (1 + a t^q / (1 + t^(q-p))) with t = 2 length / radii [...], dimensionless; the basis treats it as a length in Å.

    Source: Witt et al. 2023 (ACEpotentials.jl), with the constants of ACEsuit's MACE.
    """
    is_zero = lengths == 0
    # The derivative of t^q is infinite at zero.
    t = 2 * jnp.where(is_zero, 1, lengths) / radii
    return jnp.where(is_zero, 1, 1 / (1 + AGNESI_A * t**AGNESI_Q / (1 + t ** (AGNESI_Q - AGNESI_P))))


def soft_transform(lengths: jax.Array, radii: jax.Array) -> jax.Array:
    """Map lengths so that they hardly fall below 3/4 of the sum of the covalent radii: the basis does not resolve shorter distances.

    Args:
        lengths: [...], Å.
        radii: sum of the covalent radii of both atoms [...], Å.

    Returns:
        p + (length - p) (1 + tanh(α (length - m))) / 2 [...], Å, p = 3/4 radii, m halfway from p to 4/3 radii, α = 4 / (7/12 radii).

    Source: `SoftTransform` of ACEsuit's MACE.
    """
    lower, upper = 3 / 4 * radii, 4 / 3 * radii
    switch = (1 + jnp.tanh(SOFT_STEEPNESS / (upper - lower) * (lengths - (lower + upper) / 2))) / 2
    return lower + (lengths - lower) * switch


def safe_norm(vectors: jax.Array) -> jax.Array:
    """Euclidean length over the last axis [...]; its gradient is zero, not NaN, at the zero vector."""
    squared = jnp.sum(vectors**2, axis=-1)
    is_zero = squared == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squared)))
