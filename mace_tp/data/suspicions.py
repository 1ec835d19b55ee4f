"""Warnings about likely mistakes in a data set: units, signs, atomic energies, duplicate structures."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from mace_tp.data.graphs import Graph
from mace_tp.data.outliers import listed, outliers
from mace_tp.data.units import units_of_atomic_energies, units_of_forces, units_of_stress, units_of_total_energies

# eV per atom. Chemical bonds bind an atom by less than 15 eV; a larger value means that the E0s belong to another method.
_LARGE_INTERACTION_ENERGY = 50.0
# Å. Less than half of the shortest bond, that of H2 (0.74 Å), never occurs at thermal energies.
_SHORT_DISTANCE = 0.3
# Å. Structures whose atoms all agree within this distance are the same.
_SAME_STRUCTURE = 1e-4
# eV/atom and eV/Å (root mean square): repeated calculations differ by less, and so do structures that close.
_SAME_ENERGY, _SAME_FORCES = 1e-3, 0.05
# Least number of configurations of one composition, least relative spread of their volumes, and the correlation of stress and volume
# that is no accident.
_ENOUGH, _ENOUGH_SPREAD, _AGAINST = 8, 0.01, -0.7


def suspicions(
    parts: Mapping[str, Sequence[Graph]], atomic_numbers: Sequence[int], atomic_energies: Sequence[float], *, energies_are_fitted: bool
) -> list[str]:
    """Lines of warning.

    Args:
        parts: {name: graphs} of training, validation and test sets.
        atomic_numbers: Z of the species.
        atomic_energies: E0 of the species, eV.
        energies_are_fitted: whether the E0s come from least squares, so that their values mean nothing by themselves.
    """
    lines = [] if energies_are_fitted else units_of_atomic_energies(atomic_numbers, atomic_energies)
    found: list[str] = []
    for name, graphs in parts.items():
        # A warning about the E0s says the same.
        totals = [] if lines else units_of_total_energies(graphs, atomic_numbers, atomic_energies)
        of_part = (
            *totals, *units_of_forces(graphs), *units_of_stress(graphs), *_energies(graphs), *outliers(graphs), *_stresses(graphs),
            *_structures(graphs),
        )  # fmt: skip
        found += [f"{name}: {line}" for line in of_part]
    return lines + found + _duplicates(parts)


def _energies(graphs: Sequence[Graph]) -> list[str]:
    far = [graph for graph in graphs if abs(graph.interaction_energy or 0.0) > _LARGE_INTERACTION_ENERGY * graph.num_nodes]
    if not far:
        return []
    where = f"{_where(far)} ({(far[0].interaction_energy or 0.0) / far[0].num_nodes:.1f} eV/atom)"
    return [
        f"E - ΣE0 beyond {_LARGE_INTERACTION_ENERGY:.0f} eV/atom in {where}; do the atomic energies come from the same method, in eV, "
        "and are the labels total energies?"
    ]


def _stresses(graphs: Sequence[Graph]) -> list[str]:
    """Check the sign of the stress: in a stable crystal tr σ / 3 = dE/dV rises with the volume.

    Energies would show less: in simulations at several temperatures their minimum need not be at the volume without stress.
    """
    groups: dict[tuple, list[Graph]] = collections.defaultdict(list)
    for graph in graphs:
        if graph.stress is not None:
            groups[tuple(np.bincount(graph.species))].append(graph)
    for group in groups.values():
        volumes = np.array([abs(np.linalg.det(graph.cell)) for graph in group])
        tensions = np.array([np.trace(graph.stress) / 3 for graph in group if graph.stress is not None])
        if len(group) < _ENOUGH or np.std(volumes) < _ENOUGH_SPREAD * np.mean(volumes) or np.std(tensions) == 0:
            continue
        if np.corrcoef(tensions, volumes)[0, 1] < _AGAINST:
            return [
                f"the stress falls as the cell grows, in {_where(group)}; is its sign ASE's, positive under tension, and not a virial's?"
            ]
    return []


def _structures(graphs: Sequence[Graph]) -> list[str]:
    near = [graph for graph in graphs if graph.shortest_length() < _SHORT_DISTANCE]
    lone = [graph for graph in graphs if graph.num_nodes == 1 and not graph.cell.any()]
    lines = [f"atoms closer than {_SHORT_DISTANCE} Å in {_where(near)} ({near[0].shortest_length():.3f} Å)"] if near else []
    if lone:
        lines.append(f"single atoms in {_where(lone)}; config_type=IsolatedAtom makes them E0s instead of training data")
    return lines


def _duplicates(parts: Mapping[str, Sequence[Graph]]) -> list[str]:
    lines: list[str] = []
    seen: dict[str, dict[bytes, Graph]] = {}
    for name, graphs in parts.items():
        twice: dict[str, list[tuple[Graph, Graph]]] = collections.defaultdict(list)
        seen[name] = {}
        for graph in graphs:
            key = _structure(graph)
            for other, known in seen.items():
                if key in known:
                    twice[other].append((graph, known[key]))
            seen[name].setdefault(key, graph)
        for other, pairs in twice.items():
            where = "more than once" if other == name else f"also in {other}"
            torn = [pair for pair in pairs if _differ(*pair)]
            if torn:
                count = "1 structure occurs" if len(torn) == 1 else f"{len(torn)} structures occur"
                lines.append(f"{name}: {count} {where} with other labels, which no model can fit: {_listed(torn)}")
            if len(torn) < len(pairs):
                graph, known = next(pair for pair in pairs if not _differ(*pair))
                equal = len(pairs) - len(torn)
                count = f"{equal} of {len(graphs)} structures {'occurs' if equal == 1 else 'occur'}"
                lines.append(f"{name}: {count} {where}, the first: {graph.source} equals {known.source}")
    return lines


def _differ(graph: Graph, other: Graph) -> bool:
    """Whether the labels of one structure differ by more than repeated calculations do."""
    far = False
    if graph.forces is not None and other.forces is not None:
        far = np.sqrt(np.mean((graph.forces - other.forces) ** 2)) > _SAME_FORCES
    return bool(far or abs(_difference(graph, other)) > _SAME_ENERGY)


def _difference(graph: Graph, other: Graph) -> float:
    """Difference of the energies, eV/atom; zero if one of them is unknown."""
    if graph.interaction_energy is None or other.interaction_energy is None:
        return 0.0
    return (graph.interaction_energy - other.interaction_energy) / graph.num_nodes


def _listed(pairs: Sequence[tuple[Graph, Graph]]) -> str:
    others = {id(graph): known for graph, known in pairs}

    def describe(graph: Graph) -> str:
        known = others[id(graph)]
        same_file = graph.source.rpartition(" frame ")[0] == known.source.rpartition(" frame ")[0]
        other = f"frame {known.source.rpartition(' frame ')[2]}" if same_file else known.source
        return f"is {other}, energy {_difference(graph, known):+.4f} eV/atom"

    return listed([graph for graph, _ in pairs], describe)


def _structure(graph: Graph) -> bytes:
    lengths = (np.concatenate([graph.positions, graph.cell]) / _SAME_STRUCTURE).round().astype(np.int64)
    return graph.species.tobytes() + lengths.tobytes()


def _where(graphs: Sequence[Graph]) -> str:
    return f"{len(graphs)} configurations, first {graphs[0].source}"
