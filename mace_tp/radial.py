"""Functions of the edge length: Bessel basis and polynomial cutoff."""

import jax
import jax.numpy as jnp


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


def polynomial_cutoff(lengths: jax.Array, cutoff: float, power: int) -> jax.Array:
    """Envelope that falls from one at r = 0 to zero at the cutoff with two vanishing derivatives there.

    Args:
        lengths: edge lengths [...], Å.
        cutoff: radius beyond which it is exactly zero, Å.
        power: p, at least 2; larger values stay near one for longer.

    Returns:
        1 - (p+1)(p+2)/2 t^p + p(p+2) t^(p+1) - p(p+1)/2 t^(p+2) with t = r/cutoff [...], dimensionless.

    Source: Gasteiger et al. 2020 (DimeNet), envelope function.
    """
    t = lengths / cutoff
    p = float(power)
    envelope = 1 - t**power * ((p + 1) * (p + 2) / 2 - t * (p * (p + 2) - t * p * (p + 1) / 2))
    return jnp.where(t < 1, envelope, 0)


def safe_norm(vectors: jax.Array) -> jax.Array:
    """Euclidean length over the last axis [...]; its gradient is zero, not NaN, at the zero vector."""
    squared = jnp.sum(vectors**2, axis=-1)
    is_zero = squared == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squared)))
