"""Embeddings of elements and of edges."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from flax import nnx, struct

from mace_tp.graph import GraphBatch, gather, pair_vectors
from mace_tp.nn.context import LayerContext
from mace_tp.nn.radial import agnesi_transform, bessel_basis, polynomial_cutoff, safe_norm, soft_transform
from mace_tp.tensor_products.algebra.sphere import harmonic_couplings
from mace_tp.tensor_products.ops.sparse_product import sparse_product


class ElementEmbedding(nnx.Module):
    """One learned vector of channels for each element."""

    def __init__(self, context: LayerContext) -> None:
        self.weight = context.normal((context.num_species, context.channels))

    def __call__(self, species: jax.Array) -> jax.Array:
        """Scalar features [1, nodes, channels] of the nodes."""
        weight = self.weight[...]
        return (weight / jnp.sqrt(weight.shape[0]).astype(weight.dtype))[None, species]


@jax.named_scope("harmonics")
def edge_harmonics(edge_vectors: jax.Array, l_max: int) -> jax.Array:
    """Spherical harmonics of the directions [edges, (l_max+1)²]: component normalisation, polar axis y (e3nn's).

    Each degree is the one before coupled with l = 1, component by component. XLA fuses these products: they take half the time of the
    matrix products of `e3nn.spherical_harmonics`. The harmonics of the zero vector are zero from l = 1 on, and so is their gradient.
    """
    squared = jnp.sum(edge_vectors**2, axis=1)
    is_zero = squared == 0
    inverse = jnp.where(is_zero, 0, jax.lax.rsqrt(jnp.where(is_zero, 1, squared)))
    degrees = [[jnp.ones_like(inverse)], [math.sqrt(3) * inverse * edge_vectors[:, i] for i in range(3)]]
    for coupling in harmonic_couplings(l_max):
        degrees.append(sparse_product(coupling, degrees[-1], degrees[1]))
    return jnp.stack([component for components in degrees[: l_max + 1] for component in components], axis=1)


# Values of `model.distance_transform`: (lengths, sum of both covalent radii) → argument of the radial basis, all [pairs] in Å.
DISTANCE_TRANSFORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "none": lambda lengths, radii: lengths,
    "agnesi": agnesi_transform,
    "soft": soft_transform,
}


@struct.dataclass
class Pairs:
    """Quantities of a pair of atoms that do not depend on direction. Padded pairs have the length `cutoff`."""

    lengths: jax.Array  # [pairs], Å
    species: tuple[jax.Array, jax.Array]  # of both atoms, each [pairs], int32
    radii: jax.Array  # sum of both covalent radii [pairs], Å (Cordero et al. 2008, as in ASE; 0.2 Å for elements without one)


@jax.named_scope("radial_basis")
def find_pairs(edge_vectors: jax.Array, batch: GraphBatch, cutoff: float, atomic_numbers: tuple[int, ...]) -> Pairs:
    """The pairs of a batch, from the first edge of each."""
    edges = batch.pair_edges[:, 0]
    first, second = (gather(batch.species, gather(ends, edges)) for ends in (batch.senders, batch.receivers))
    radii = jnp.asarray(covalent_radii[np.asarray(atomic_numbers)], edge_vectors.dtype)
    return Pairs(safe_norm(pair_vectors(edge_vectors, batch, cutoff)), (first, second), gather(radii, first) + gather(radii, second))


@struct.dataclass
class RadialEmbedding:
    """Functions of the length of every pair, and their derivatives by the length."""

    lengths: jax.Array  # [pairs], Å
    values: jax.Array  # [pairs, num_basis], Å^(-3/2); zero from the cutoff on
    slopes: jax.Array  # [pairs, num_basis], Å^(-5/2): derivatives of the values by the length


@jax.named_scope("radial_basis")
def radial_embedding(pairs: Pairs, cutoff: float, num_basis: int, cutoff_power: int, distance_transform: str) -> RadialEmbedding:
    """Bessel functions of the transformed length times the envelope of the length."""

    def embed(lengths: jax.Array) -> jax.Array:
        basis = bessel_basis(DISTANCE_TRANSFORMS[distance_transform](lengths, pairs.radii), cutoff, num_basis)
        return basis * polynomial_cutoff(lengths, cutoff, cutoff_power)[:, None]

    values, slopes = jax.jvp(embed, (pairs.lengths,), (jnp.ones_like(pairs.lengths),))
    return RadialEmbedding(lengths=pairs.lengths, values=values, slopes=slopes)
