"""One configuration with its edges and interaction energy, ready for batching."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from mace_tp.data.configuration import Configuration, LabelWeights
from mace_tp.data.elements import species_of
from mace_tp.data.neighbors import neighbor_list, wrap
from mace_tp.edge_blocks import fill_edge_blocks, pair_slots

_LOG = logging.getLogger("mace_tp")
# Å³. A cell below this volume counts as flat, and stress is not defined for it.
NO_VOLUME = 1e-6


@dataclasses.dataclass(frozen=True)
class Graph:
    """Atoms, edges and labels of one configuration; real numbers are float64.

    Positions are centered at the origin and wrapped into the cell around it. This leaves edge vectors, and therefore energy, forces and
    stress, unchanged.
    """

    positions: np.ndarray  # [atoms, 3], Å
    species: np.ndarray  # [atoms], int32: index into the model's elements
    senders: np.ndarray  # [slots], int32
    receivers: np.ndarray  # [slots], int32, ascending; each block of EDGE_BLOCK slots has one receiver
    edge_vectors: np.ndarray  # [slots, 3], Å: receiver - sender, through the periodic image; zero in fillers of blocks
    edge_mask: np.ndarray  # [slots], bool: true = an edge, false = a filler of a block
    pairs: np.ndarray  # [pairs, 2], int32: slots of an edge and its reverse
    cell: np.ndarray  # [3, 3], Å; zero where nothing is periodic
    interaction_energy: float | None  # E - sum of E0, eV
    forces: np.ndarray | None  # [atoms, 3], eV/Å
    stress: np.ndarray | None  # [3, 3], eV/Å³; None for a cell without volume
    source: str  # the configuration's file and frame
    weights: LabelWeights | None = None  # of the labels in the loss; None: all one

    @property
    def num_nodes(self) -> int:
        return len(self.species)

    @property
    def num_edges(self) -> int:
        return int(self.edge_mask.sum())

    @property
    def num_edge_slots(self) -> int:
        return len(self.edge_mask)

    def lengths(self) -> np.ndarray:
        """Length of every edge [edges], Å."""
        return np.linalg.norm(self.edge_vectors[self.edge_mask], axis=1)

    def shortest_length(self) -> float:
        """Length of the shortest edge, Å; infinite without edges."""
        return float(self.lengths().min(initial=np.inf))


def build_graphs(
    configurations: Sequence[Configuration], atomic_numbers: Sequence[int], atomic_energies: Sequence[float], cutoff: float
) -> list[Graph]:
    """Build the graph of every configuration.

    Args:
        configurations: in the order of the result.
        atomic_numbers: the model's elements, ascending Z; a species is an index into them.
        atomic_energies: E0 of each element, eV.
        cutoff: Å.

    Raises:
        InputError: an atom's element is not among the model's.
    """
    elements, energies = np.asarray(atomic_numbers), np.asarray(atomic_energies, np.float64)
    graphs = [_build_graph(configuration, elements, energies, cutoff) for configuration in configurations]
    lost = [frame.source for frame, graph in zip(configurations, graphs, strict=True) if frame.stress is not None and graph.stress is None]
    if lost:
        _LOG.warning("the stress of %d configurations is not used, because their cells have no volume; first %s", len(lost), lost[0])
    return graphs


def _build_graph(configuration: Configuration, elements: np.ndarray, atomic_energies: np.ndarray, cutoff: float) -> Graph:
    species = species_of(configuration.atomic_numbers, elements, configuration.source)
    # Centering before wrapping keeps a molecule in a periodic box whole.
    positions = wrap(configuration.positions - configuration.positions.mean(axis=0), configuration.cell, configuration.pbc)
    senders, receivers, shifts, reverse = neighbor_list(positions, configuration.cell, configuration.pbc, cutoff)
    vectors = positions[receivers] - positions[senders] + shifts
    senders, receivers, vectors, edge_mask = fill_edge_blocks(senders, receivers, vectors, configuration.num_atoms)
    cell = configuration.cell if any(configuration.pbc) else np.zeros((3, 3))
    energy = configuration.energy
    return Graph(
        positions=positions,
        species=species,
        senders=senders,
        receivers=receivers,
        edge_vectors=vectors,
        edge_mask=edge_mask,
        pairs=pair_slots(reverse, edge_mask),
        cell=cell,
        interaction_energy=None if energy is None else float(energy - atomic_energies[species].sum()),
        forces=configuration.forces,
        stress=configuration.stress if abs(np.linalg.det(cell)) > NO_VOLUME else None,
        source=configuration.source,
        weights=None if configuration.weights == LabelWeights() else configuration.weights,
    )
