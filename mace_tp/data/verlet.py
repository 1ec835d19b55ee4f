"""Verlet list: neighbors are searched beyond the cutoff, and again only after atoms or cell have moved far."""

import dataclasses

import numpy as np

from mace_tp.data.configuration import Configuration
from mace_tp.data.elements import species_of
from mace_tp.data.graphs import Graph
from mace_tp.data.neighbors import image_shifts, neighbor_images, wrap
from mace_tp.edge_blocks import fill_edge_blocks, pair_slots


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Pairs within cutoff + skin in a structure."""

    configuration: Configuration
    species: np.ndarray  # [atoms], int32
    positions: np.ndarray  # [atoms, 3], Å: around the origin
    senders: np.ndarray  # [candidates], int32
    receivers: np.ndarray  # [candidates], int32, ascending
    images: np.ndarray  # [candidates, 3], whole numbers of lattice vectors
    reverse: np.ndarray  # [candidates], int32: index of the reverse
    shifts: np.ndarray  # [candidates, 3], Å, in the cell at the search

    def shifts_in(self, cell: np.ndarray) -> np.ndarray:
        """Shifts [candidates, 3] in a cell, Å."""
        # They cost half as much as the rest of a graph, so an unchanged cell reuses them.
        return self.shifts if np.array_equal(cell, self.configuration.cell) else image_shifts(self.images, cell)

    def moved(self, configuration: Configuration, cutoff: float, skin: float) -> np.ndarray | None:
        """New positions [atoms, 3], Å; None if a pair outside the list may be within the cutoff, or for another structure.

        A pair with vector v' now had the vector (v' - u + u') F⁻¹ at the search, where F is the deformation of the cell, and u and u' are
        the displacements of its two atoms beyond F. Its length was at most (cutoff + 2 max |u|) / σ, with σ the least singular value of F.
        """
        mine = self.configuration
        if mine.pbc != configuration.pbc or not np.array_equal(mine.atomic_numbers, configuration.atomic_numbers):
            return None
        deformation = _deformation(mine.cell, configuration.cell, mine.pbc)
        moved = configuration.positions - mine.positions @ deformation
        moved -= moved.mean(axis=0)
        farthest = np.sqrt(np.einsum("ni,ni->n", moved, moved).max())
        least = np.linalg.svd(deformation, compute_uv=False)[-1]
        return self.positions @ deformation + moved if cutoff + 2 * farthest < (cutoff + skin) * least else None


def _deformation(before: np.ndarray, after: np.ndarray, pbc: tuple[bool, bool, bool]) -> np.ndarray:
    """F [3, 3] with after = before F for periodic lattice vectors, and the identity at right angles to them."""
    before, after = before[list(pbc)], after[list(pbc)]
    return np.eye(3) + np.linalg.pinv(before) @ (after - before)


class VerletList:
    """Graphs of a moving structure. Structures near the last searched one reuse its candidate neighbors (Verlet 1967).

    Args:
        atomic_numbers: the model's elements, ascending Z.
        cutoff: Å. The graphs have exactly the edges below it.
        skin: Å. Candidates reach this far beyond the cutoff.
    """

    def __init__(self, atomic_numbers: tuple[int, ...], cutoff: float, skin: float) -> None:
        self._elements, self._cutoff, self._skin = np.asarray(atomic_numbers), cutoff, skin
        self._candidates: _Candidates | None = None

    def graph(self, configuration: Configuration) -> Graph:
        """The graph, without labels.

        Raises:
            InputError: the model does not have the element of an atom.
        """
        found = self._candidates
        positions = None if found is None else found.moved(configuration, self._cutoff, self._skin)
        if found is None or positions is None:
            self._candidates = found = self._find(configuration)
            positions = found.positions
        shifts = found.shifts_in(configuration.cell)
        vectors = positions[found.receivers] - positions[found.senders] + shifts
        # A vector and its reverse are opposite to the last bit, so both are kept or neither.
        kept = np.flatnonzero(np.einsum("ei,ei->e", vectors, vectors) < self._cutoff**2)
        place = np.empty(len(found.senders), np.int32)
        place[kept] = np.arange(len(kept), dtype=np.int32)
        edges = fill_edge_blocks(found.senders[kept], found.receivers[kept], vectors[kept], len(positions))
        senders, receivers, vectors, edge_mask = edges
        cell = configuration.cell if any(configuration.pbc) else np.zeros((3, 3))
        return Graph(
            positions=positions, species=found.species, senders=senders, receivers=receivers, edge_vectors=vectors, edge_mask=edge_mask,
            pairs=pair_slots(place[found.reverse[kept]], edge_mask), cell=cell, interaction_energy=None, forces=None, stress=None,
            source=configuration.source,
        )  # fmt: skip

    def _find(self, configuration: Configuration) -> _Candidates:
        species = species_of(configuration.atomic_numbers, self._elements, configuration.source)
        centered = configuration.positions - configuration.positions.mean(axis=0)
        positions = wrap(centered, configuration.cell, configuration.pbc)
        edges = neighbor_images(positions, configuration.cell, configuration.pbc, self._cutoff + self._skin)
        # Copies, because the caller may change its arrays in place.
        numbers, places, cell = configuration.atomic_numbers.copy(), configuration.positions.copy(), configuration.cell.copy()
        copied = dataclasses.replace(configuration, atomic_numbers=numbers, positions=places, cell=cell)
        return _Candidates(copied, species, positions, *edges, image_shifts(edges[2], cell))
