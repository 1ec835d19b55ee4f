"""Labels of single frames that are far outside those of all others, by quantiles, which such frames do not move."""

import collections
from collections.abc import Callable, Sequence

import numpy as np

from mace_tp.data.graphs import Graph

# Least number of frames of one composition from which usual values are taken.
_ENOUGH = 8
# Share of the frames that are usual, and how many times farther off than these an outlier must be. In thermal, rattled and strained
# structures the farthest frame is less than 4 times as far.
_USUAL, _FAR = 0.9, 10.0
# eV/atom: frames that differ by less are no outliers, however alike the others are. It is added to what is usual.
_SAME_ENERGY = 0.02
# eV/Å and eV/Å³ below which no component is an outlier: atoms that come near have 20 eV/Å, compressed crystals 0.5 eV/Å³ (80 GPa).
_LEAST_FORCE, _LEAST_STRESS = 20.0, 0.5
_MAX_LISTED = 10


def outliers(graphs: Sequence[Graph]) -> list[str]:
    """Lines of warning that name the frames of a part whose energy, forces or stress are far outside the rest."""
    return _energies(graphs) + _components(graphs, "forces", "eV/Å", _LEAST_FORCE) + _components(graphs, "stress", "eV/Å³", _LEAST_STRESS)


def listed(graphs: Sequence[Graph], describe: Callable[[Graph], str]) -> str:
    """Files and numbers of frames, each with its remark; at most ten, then a count."""
    shown = graphs[:_MAX_LISTED]
    file = shown[0].source.rpartition(" frame ")[0]
    is_one_file = all(graph.source.startswith(f"{file} ") for graph in shown)  # then its name is said once
    names = [shown[0].source, *(graph.source.removeprefix(f"{file} " * is_one_file) for graph in shown[1:])]
    named = ", ".join(f"{name} ({describe(graph)})" for name, graph in zip(names, shown, strict=True))
    return named + (f" and {len(graphs) - _MAX_LISTED} more" if len(graphs) > _MAX_LISTED else "")


def _energies(graphs: Sequence[Graph]) -> list[str]:
    """Energies per atom are compared with those of the same composition; where there are few, with what the compositions let expect."""
    groups: dict[tuple, list[Graph]] = collections.defaultdict(list)
    for graph in graphs:
        if graph.interaction_energy is not None:
            groups[tuple(np.bincount(graph.species))].append(graph)
    rest = [graph for group in groups.values() if len(group) < _ENOUGH for graph in group]
    away: dict[int, float] = {}
    for group in [group for group in groups.values() if len(group) >= _ENOUGH]:
        away |= _far_energies(group, np.array([graph.interaction_energy / graph.num_nodes for graph in group]))
    away |= _far_energies(rest, _unexplained(rest))
    far = [graph for graph in graphs if id(graph) in away]
    if not far:
        return []
    return [f"energies far from those of similar frames: {listed(far, lambda graph: f'{away[id(graph)]:+.3f} eV/atom')}"]


def _far_energies(graphs: Sequence[Graph], energies: np.ndarray) -> dict[int, float]:
    """Distance from the median by id of each graph whose energy [graphs], eV/atom, is far off."""
    if len(graphs) < _ENOUGH:
        return {}
    distances = energies - np.median(energies)
    limit = _FAR * (_usual(np.abs(distances)) + _SAME_ENERGY)
    return {id(graph): float(distance) for graph, distance in zip(graphs, distances, strict=True) if abs(distance) > limit}


def _unexplained(graphs: Sequence[Graph]) -> np.ndarray:
    """Energies [graphs], eV/atom, less what the shares of the elements explain."""
    if not graphs:
        return np.zeros(0)
    num_species = max(int(graph.species.max()) for graph in graphs) + 1
    shares = np.array([np.bincount(graph.species, minlength=num_species) / graph.num_nodes for graph in graphs])
    energies = np.array([graph.interaction_energy / graph.num_nodes for graph in graphs])
    return energies - shares @ np.linalg.lstsq(shares, energies, rcond=None)[0]


def _components(graphs: Sequence[Graph], field: str, unit: str, least: float) -> list[str]:
    """Frames whose largest component of the forces or the stress is far above the largest ones of other frames."""
    values = {"forces": lambda graph: graph.forces, "stress": lambda graph: graph.stress}[field]
    labelled = [graph for graph in graphs if values(graph) is not None]
    if len(labelled) < _ENOUGH:
        return []
    largest = {id(graph): float(np.abs(values(graph)).max()) for graph in labelled}
    limit = max(least, _FAR * _usual(np.array(list(largest.values()))))
    far = [graph for graph in labelled if largest[id(graph)] > limit]
    if not far:
        return []
    return [f"{field} far larger than in other frames: {listed(far, lambda graph: f'{largest[id(graph)]:.4g} {unit}')}"]


def _usual(sizes: np.ndarray) -> float:
    # The lower of the two that a quantile is between, so that it is never the largest one.
    return float(np.quantile(sizes, _USUAL, method="lower"))
