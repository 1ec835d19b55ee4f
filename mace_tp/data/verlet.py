"""The graph of a structure that moves: pairs are looked for beyond the cutoff, and again only once an atom has moved far."""

import dataclasses

import numpy as np

from mace_tp.data.configuration import Configuration
from mace_tp.data.graphs import Graph, species_of
from mace_tp.data.neighbors import neighbor_list, wrap
from mace_tp.edge_blocks import fill_edge_blocks, pair_slots


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Pairs within the cutoff and the skin of a structure, which hold while no atom moves further than half the skin."""

    configuration: Configuration
    species: np.ndarray  # [atoms], int32
    positions: np.ndarray  # [atoms, 3], Å: around the origin
    senders: np.ndarray  # [candidates], int32
    receivers: np.ndarray  # [candidates], int32, ascending
    shifts: np.ndarray  # [candidates, 3], Å
    reverse: np.ndarray  # [candidates], int32: the one in the opposite direction

    def hold_for(self, configuration: Configuration, skin: float) -> bool:
        """Whether it is the same structure, with all atoms near their places."""
        mine = self.configuration
        same = mine.pbc == configuration.pbc and np.array_equal(mine.atomic_numbers, configuration.atomic_numbers)
        if not same or (any(mine.pbc) and not np.array_equal(mine.cell, configuration.cell)):
            return False
        moved = configuration.positions - mine.positions
        return bool(np.einsum("ni,ni->n", moved, moved).max() < (skin / 2) ** 2)


class VerletList:
    """Graphs of one structure after another; those that are near the one before share its candidates for neighbors (Verlet 1967).

    Args:
        atomic_numbers: the model's elements, ascending Z.
        cutoff: Å. The graphs have all edges below it and no other.
        skin: Å. Candidates reach so far beyond the cutoff.
    """

    def __init__(self, atomic_numbers: tuple[int, ...], cutoff: float, skin: float) -> None:
        self._elements, self._cutoff, self._skin = np.asarray(atomic_numbers), cutoff, skin
        self._candidates: _Candidates | None = None

    def graph(self, configuration: Configuration) -> Graph:
        """The graph, without labels.

        Raises:
            InputError: an atom's element is not among the model's.
        """
        if self._candidates is None or not self._candidates.hold_for(configuration, self._skin):
            self._candidates = self._find(configuration)
        found = self._candidates
        # The displacements since the search are the same in the wrapped positions.
        positions = found.positions + (configuration.positions - found.configuration.positions)
        vectors = positions[found.receivers] - positions[found.senders] + found.shifts
        # A vector and its reverse are opposite to the last bit, so both are kept or neither.
        kept = np.flatnonzero(np.einsum("ei,ei->e", vectors, vectors) < self._cutoff**2)
        place = np.empty(len(found.senders), np.int32)
        place[kept] = np.arange(len(kept), dtype=np.int32)
        edges = fill_edge_blocks(found.senders[kept], found.receivers[kept], found.shifts[kept], len(positions))
        senders, receivers, shifts, edge_mask = edges
        cell = configuration.cell if any(configuration.pbc) else np.zeros((3, 3))
        return Graph(
            positions=positions, species=found.species, senders=senders, receivers=receivers, shifts=shifts, edge_mask=edge_mask,
            pairs=pair_slots(place[found.reverse[kept]], edge_mask), cell=cell, interaction_energy=None, forces=None, stress=None,
            source=configuration.source,
        )  # fmt: skip

    def _find(self, configuration: Configuration) -> _Candidates:
        species = species_of(configuration, self._elements)
        centered = configuration.positions - configuration.positions.mean(axis=0)
        positions = wrap(centered, configuration.cell, configuration.pbc)
        edges = neighbor_list(positions, configuration.cell, configuration.pbc, self._cutoff + self._skin)
        copied = dataclasses.replace(configuration, positions=configuration.positions.copy(), cell=configuration.cell.copy())
        return _Candidates(copied, species, positions, *edges)
