"""Embeddings of elements and of edges."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
from flax import nnx
from numpy.random import Generator

from mace_tp.nn.linear import normal
from mace_tp.radial import bessel_basis, polynomial_cutoff, safe_norm


class ElementEmbedding(nnx.Module):
    """One vector of channels for each element."""

    def __init__(self, num_species: int, channels: int, *, dtype: jnp.dtype, rng: Generator) -> None:
        self.weight = normal(rng, (num_species, channels), dtype)

    def __call__(self, species: jax.Array) -> jax.Array:
        """Scalar features [1, nodes, channels] of the nodes."""
        weight = self.weight[...]
        return (weight / jnp.sqrt(weight.shape[0]).astype(weight.dtype))[None, species]


def edge_harmonics(edge_vectors: jax.Array, l_max: int) -> jax.Array:
    """Spherical harmonics of the directions [edges, (l_max+1)²]: component normalisation, polar axis y (e3nn's)."""
    return e3nn.spherical_harmonics(e3nn.s2_irreps(l_max), edge_vectors, normalize=True, normalization="component").array


def radial_embedding(edge_vectors: jax.Array, cutoff: float, num_basis: int, cutoff_power: int) -> jax.Array:
    """Bessel functions times the envelope [edges, num_basis], Å^(-3/2); exactly zero from the cutoff on."""
    lengths = safe_norm(edge_vectors)
    return bessel_basis(lengths, cutoff, num_basis) * polynomial_cutoff(lengths, cutoff, cutoff_power)[:, None]
