"""Rows of irreps among components, and irreps as components of functions on the sphere."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np


def irreps_of(irreps: e3nn.Irreps) -> list[e3nn.Irrep]:
    """The irreps one after another, without multiplicities."""
    return [irrep.ir for irrep in irreps]


def rows_of(irreps: e3nn.Irreps) -> dict[e3nn.Irrep, slice]:
    """Rows of each irrep; all have multiplicity one."""
    return {irrep.ir: rows for irrep, rows in zip(irreps, irreps.slices())}


def split_irreps(features: jax.Array, irreps: e3nn.Irreps) -> dict[e3nn.Irrep, jax.Array]:
    """Components [dim, ...] of each irrep.

    The derivative of the split is one concatenation; the derivative of slices would be a sum of padded arrays.
    """
    blocks = jnp.split(features, np.cumsum([irrep.dim for irrep in irreps])[:-1])
    return {irrep.ir: block for irrep, block in zip(irreps, blocks, strict=True)}


def is_natural(irrep: e3nn.Irrep) -> bool:
    """Whether the parity is (-1)^l, the parity of the harmonics of degree l."""
    return irrep.p == (-1) ** irrep.l


def require_harmonics(irreps: e3nn.Irreps) -> None:
    """Raise ValueError unless every irrep is natural and of multiplicity one."""
    if not all(irrep.mul == 1 and is_natural(irrep.ir) for irrep in irreps):
        raise ValueError(f"irreps must be harmonics, each of multiplicity one, got {irreps}")


def rows_of_harmonics(irreps: e3nn.Irreps) -> np.ndarray:
    """Rows of the components of irreps among the harmonics of degree 0, 1, 2, ..."""
    return np.concatenate([np.arange(irrep.ir.l**2, (irrep.ir.l + 1) ** 2) for irrep in irreps])


def parity_mask(irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
    """Whether the parities of components i and j multiply to the parity of component m [i, j, m]."""
    first, second, out = (
        np.repeat([irrep.ir.p for irrep in irreps], [irrep.ir.dim for irrep in irreps]) for irreps in (irreps_1, irreps_2, irreps_out)
    )
    return first[:, None, None] * second[:, None] == out
