"""Embeddings of elements and of edges."""

from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
from flax import nnx, struct
from numpy.random import Generator

from mace_tp.covalent_radii import covalent_radii
from mace_tp.graph import GraphBatch, gather, pair_vectors
from mace_tp.nn.linear import normal
from mace_tp.radial import agnesi_transform, bessel_basis, polynomial_cutoff, safe_norm, soft_transform


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


# What `model.distance_transform` names: (lengths, sum of both covalent radii) → lengths that the basis sees, all [pairs] in Å.
DISTANCE_TRANSFORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "none": lambda lengths, radii: lengths,
    "agnesi": agnesi_transform,
    "soft": soft_transform,
}


@struct.dataclass
class Pairs:
    """What depends on two atoms without direction; of length `cutoff` where it is padding."""

    lengths: jax.Array  # [pairs], Å
    species: tuple[jax.Array, jax.Array]  # of both atoms, each [pairs], int32
    radii: jax.Array  # sum of both covalent radii [pairs], Å


def find_pairs(edge_vectors: jax.Array, batch: GraphBatch, cutoff: float, atomic_numbers: tuple[int, ...]) -> Pairs:
    """The pairs of a batch, from the first edge of each."""
    edges = batch.pair_edges[:, 0]
    first, second = (gather(batch.species, gather(ends, edges)) for ends in (batch.senders, batch.receivers))
    radii = jnp.asarray(covalent_radii(atomic_numbers), edge_vectors.dtype)
    return Pairs(safe_norm(pair_vectors(edge_vectors, batch, cutoff)), (first, second), gather(radii, first) + gather(radii, second))


def radial_embedding(pairs: Pairs, cutoff: float, num_basis: int, cutoff_power: int, distance_transform: str) -> jax.Array:
    """Bessel functions of the transformed length times the envelope of the length [pairs, num_basis], Å^(-3/2); zero from the cutoff on."""
    basis = bessel_basis(DISTANCE_TRANSFORMS[distance_transform](pairs.lengths, pairs.radii), cutoff, num_basis)
    return basis * polynomial_cutoff(pairs.lengths, cutoff, cutoff_power)[:, None]
