"""Detection of single frames with labels far outside the rest, by quantiles, which such frames do not shift."""

import collections
from collections.abc import Callable, Sequence

import numpy as np

from mace_tp.data.graphs import Graph

# Smallest number of frames of one composition that defines usual values.
_ENOUGH = 8
# Fraction of frames that count as usual, and the factor by which an outlier exceeds them. In thermal, rattled and strained structures the
# farthest frame is less than 4 times as far away.
_USUAL, _FAR = 0.9, 10.0
# eV/atom, added to the usual distance: frames that differ by less are no outliers, even if all others are equal.
_SAME_ENERGY = 0.02
# eV/Å and eV/Å³ below which no component is an outlier: close atoms have 20 eV/Å, compressed crystals 0.5 eV/Å³ (80 GPa).
_LEAST_FORCE, _LEAST_STRESS = 20.0, 0.5
_MAX_LISTED = 10


def outliers(graphs: Sequence[Graph]) -> list[str]:
    """Lines of warning that name the frames with an energy, forces or a stress far outside the rest of `graphs`."""
    return _energies(graphs) + _components(graphs, "forces", "eV/Å", _LEAST_FORCE) + _components(graphs, "stress", "eV/Å³", _LEAST_STRESS)


def listed(graphs: Sequence[Graph], describe: Callable[[Graph], str]) -> str:
    """The sources of at most ten graphs, each with its description, and the number of further ones."""
    shown = graphs[:_MAX_LISTED]
    file = shown[0].source.rpartition(" frame ")[0]
    is_one_file = all(graph.source.startswith(f"{file} ") for graph in shown)  # then its name is written once
    names = [shown[0].source, *(graph.source.removeprefix(f"{file} " * is_one_file) for graph in shown[1:])]
    named = ", ".join(f"{name} ({describe(graph)})" for name, graph in zip(names, shown, strict=True))
    return named + (f" and {len(graphs) - _MAX_LISTED} more" if len(graphs) > _MAX_LISTED else "")


def _energies(graphs: Sequence[Graph]) -> list[str]:
    """Compare energies per atom with frames of the same composition; if there are few of these, with a fit to all such compositions."""
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
    """{id of a graph: distance from the median} of the graphs whose energy [graphs], eV/atom, is far off."""
    if len(graphs) < _ENOUGH:
        return {}
    distances = energies - np.median(energies)
    limit = _FAR * (_usual(np.abs(distances)) + _SAME_ENERGY)
    return {id(graph): float(distance) for graph, distance in zip(graphs, distances, strict=True) if abs(distance) > limit}


def _unexplained(graphs: Sequence[Graph]) -> np.ndarray:
    """Residuals [graphs], eV/atom, of a linear fit of the energies to the fractions of the elements."""
    if not graphs:
        return np.zeros(0)
    num_species = max(int(graph.species.max()) for graph in graphs) + 1
    shares = np.array([np.bincount(graph.species, minlength=num_species) / graph.num_nodes for graph in graphs])
    energies = np.array([graph.interaction_energy / graph.num_nodes for graph in graphs])
    return energies - shares @ np.linalg.lstsq(shares, energies, rcond=None)[0]


def _components(graphs: Sequence[Graph], field: str, unit: str, least: float) -> list[str]:
    """Frames whose largest component of the forces or the stress is far above those of other frames."""
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
    # `lower`: between two values the quantile takes the lower one, so that it is never the maximum.
    return float(np.quantile(sizes, _USUAL, method="lower"))
