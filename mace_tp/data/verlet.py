"""The graph of a structure that moves: pairs are looked for beyond the cutoff, and again only once atoms or cell have moved far."""

import dataclasses

import numpy as np

from mace_tp.data.configuration import Configuration
from mace_tp.data.elements import species_of
from mace_tp.data.graphs import Graph
from mace_tp.data.neighbors import image_shifts, neighbor_images, wrap
from mace_tp.edge_blocks import fill_edge_blocks, pair_slots


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Pairs within the cutoff and the skin of a structure."""

    configuration: Configuration
    species: np.ndarray  # [atoms], int32
    positions: np.ndarray  # [atoms, 3], Å: around the origin
    senders: np.ndarray  # [candidates], int32
    receivers: np.ndarray  # [candidates], int32, ascending
    images: np.ndarray  # [candidates, 3], whole numbers of lattice vectors
    reverse: np.ndarray  # [candidates], int32: the one in the opposite direction
    shifts: np.ndarray  # [candidates, 3], Å, in the cell of the search

    def shifts_in(self, cell: np.ndarray) -> np.ndarray:
        """Shifts [candidates, 3] in a cell, Å."""
        # They take half as long as the rest of a graph, so a cell that stays keeps them.
        return self.shifts if np.array_equal(cell, self.configuration.cell) else image_shifts(self.images, cell)

    def moved(self, configuration: Configuration, cutoff: float, skin: float) -> np.ndarray | None:
        """Where the atoms are now [atoms, 3], Å; None if another pair may be within the cutoff, or it is another structure.

        A pair at v' now was at (v' - u + u') F⁻¹, where F is the deformation of space that the cell says, and u and u' are what its two
        atoms have moved besides. That is no longer than (cutoff + 2 max |u|) / σ, with σ the least singular value of F.
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
    """F [3, 3] with after = before F for periodic lattice vectors; what is at right angles to those stays; one for the same cell."""
    before, after = before[list(pbc)], after[list(pbc)]
    return np.eye(3) + np.linalg.pinv(before) @ (after - before)


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
        # The arrays that were given may be changed in place.
        numbers, places, cell = configuration.atomic_numbers.copy(), configuration.positions.copy(), configuration.cell.copy()
        copied = dataclasses.replace(configuration, atomic_numbers=numbers, positions=places, cell=cell)
        return _Candidates(copied, species, positions, *edges, image_shifts(edges[2], cell))
