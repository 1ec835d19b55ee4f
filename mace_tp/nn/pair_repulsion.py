"""Repulsion of pairs of atoms beside the learned energy. It has no parameters."""

import dataclasses

import jax
import jax.numpy as jnp

from mace_tp.graph import GraphBatch, gather, segment_sum
from mace_tp.nn.embedding import Pairs
from mace_tp.nn.repulsion import zbl


@dataclasses.dataclass(frozen=True)
class NoRepulsion:
    """No repulsion."""

    atomic_numbers: tuple[int, ...]
    power: int

    def __call__(self, pairs: Pairs, batch: GraphBatch) -> jax.Array:
        """Zero for each node [nodes]."""
        return jnp.zeros(batch.num_nodes, pairs.lengths.dtype)


@dataclasses.dataclass(frozen=True)
class ZBLRepulsion:
    """Repulsion of the nuclei (`repulsion.zbl`), half at each of the two atoms. The model's scale multiplies it, as in ACEsuit's MACE.

    Where covalent spheres reach beyond the cutoff (Cs-Cs: 4.88 Å), every given edge counts, also one longer than the cutoff.
    """

    atomic_numbers: tuple[int, ...]  # of the model's elements
    power: int  # of the envelope

    def __call__(self, pairs: Pairs, batch: GraphBatch) -> jax.Array:
        """Energy of each node [nodes], eV before the model's scale."""
        charges = jnp.asarray(self.atomic_numbers)
        first, second = (gather(charges, species) for species in pairs.species)
        energy = gather(zbl(pairs.lengths, (first, second), pairs.radii, self.power) / 2, batch.edge_pair)
        # Padded edges have the length `cutoff`, at which covalent spheres may still overlap.
        energy = jnp.where(batch.edge_mask, energy, 0)
        return segment_sum(energy, batch.receivers, batch.num_nodes, indices_are_sorted=True)
