"""Where irreps lie among components, and irreps as components of functions on the sphere."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np


def rows_of(irreps: e3nn.Irreps) -> dict[e3nn.Irrep, slice]:
    """Where each irrep, of multiplicity one, lies."""
    return {irrep.ir: rows for irrep, rows in zip(irreps, irreps.slices())}


def split_irreps(features: jax.Array, irreps: e3nn.Irreps) -> dict[e3nn.Irrep, jax.Array]:
    """Components [dim, ...] of each irrep; the derivative is one concatenation, where that of slices is a sum of padded arrays."""
    blocks = jnp.split(features, np.cumsum([irrep.dim for irrep in irreps])[:-1])
    return {irrep.ir: block for irrep, block in zip(irreps, blocks, strict=True)}


def is_natural(irrep: e3nn.Irrep) -> bool:
    """Parity (-1)^l: what a function on the sphere is made of."""
    return irrep.p == (-1) ** irrep.l


def require_harmonics(irreps: e3nn.Irreps) -> None:
    """Raise ValueError unless every irrep is natural and of multiplicity one."""
    if not all(irrep.mul == 1 and is_natural(irrep.ir) for irrep in irreps):
        raise ValueError(f"irreps must be harmonics, each of multiplicity one, got {irreps}")


def rows_of_harmonics(irreps: e3nn.Irreps) -> np.ndarray:
    """Where the components of irreps lie among the harmonics of degree 0, 1, 2, ..."""
    return np.concatenate([np.arange(irrep.ir.l**2, (irrep.ir.l + 1) ** 2) for irrep in irreps])


def parity_mask(irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
    """Where the parities of two components and of a component of their product agree [i, j, m]."""
    first, second, out = (
        np.repeat([irrep.ir.p for irrep in irreps], [irrep.ir.dim for irrep in irreps]) for irreps in (irreps_1, irreps_2, irreps_out)
    )
    return first[:, None, None] * second[:, None] == out
