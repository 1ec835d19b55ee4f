"""What the data look like, in the lines that are printed before a training."""

from collections.abc import Mapping, Sequence

import numpy as np

from mace_tp.data.buckets import Bucket, estimated_padding
from mace_tp.data.elements import symbols
from mace_tp.data.graphs import Graph
from mace_tp.dataset_statistics import DatasetStatistics

# eV per atom. Chemical bonds bind an atom by less than 15 eV; more means that the E0s belong to another method.
_LARGE_INTERACTION_ENERGY = 50.0
# Å. Half of the shortest bond, that of H2 (0.74 Å), is never reached at thermal energies.
_SHORT_DISTANCE = 0.3


def data_report(
    train: Sequence[Graph],
    valid: Sequence[Graph],
    test: Mapping[str, Sequence[Graph]],
    statistics: DatasetStatistics,
    buckets: Sequence[Bucket],
    batch_size: int,
    seed: int = 0,
) -> list[str]:
    """Lines to print: sizes, elements, labels, ranges, padding, and warnings about what is likely a mistake.

    Args:
        train: the training set, at least one graph.
        valid: the validation set; may be empty.
        test: {name: graphs} of every test set.
        statistics: of the training set.
        buckets: the training loader's.
        batch_size: the training loader's.
        seed: the training loader's.
    """
    parts = {"train": train, "valid": valid} | {f"test {name}": graphs for name, graphs in test.items()}
    lines = []
    for name, graphs in parts.items():
        lines += _part_lines(name, graphs, statistics.atomic_numbers) if graphs else [f"{name}: none"]
    shapes = ", ".join(f"{bucket.nodes} nodes x {bucket.edges} edges" for bucket in buckets)
    padding = estimated_padding(train, buckets, batch_size, seed)
    lines.append(f"batches of {batch_size}: padded to {shapes}; {padding:.0%} of the edge slots are padding")
    scale = f"scale {statistics.scale:.4f} eV/Å, shift {statistics.shift:.4f} eV/atom"
    lines.append(f"statistics: {scale}, {statistics.avg_num_neighbors:.2f} neighbors per atom")
    return lines + [warning for name, graphs in parts.items() for warning in _warnings(name, graphs)]


def _part_lines(name: str, graphs: Sequence[Graph], atomic_numbers: Sequence[int]) -> list[str]:
    sizes = np.array([graph.num_nodes for graph in graphs])
    present = np.unique(np.concatenate([graph.species for graph in graphs]))
    elements = symbols(atomic_numbers[species] for species in present)
    lines = [f"{name}: {len(graphs)} configurations, {sizes.sum()} atoms ({_range(sizes, 'd')} each), elements {elements}"]
    lines.append(f"  labels: {_labels(graphs)}")
    energies = [graph.interaction_energy / graph.num_nodes for graph in graphs if graph.interaction_energy is not None]
    if energies:
        lines.append(f"  interaction energy E - ΣE0: {_range(energies, '.3f')} eV/atom")
    forces = [graph.forces.ravel() for graph in graphs if graph.forces is not None]
    if forces:
        components = np.concatenate(forces)
        lines.append(f"  forces: RMS {np.sqrt(np.mean(components**2)):.3f} eV/Å, largest component {np.abs(components).max():.3f} eV/Å")
    num_edges, shortest = sum(graph.num_edges for graph in graphs), min(_shortest(graph) for graph in graphs)
    distance = f"shortest distance {shortest:.3f} Å" if num_edges else "no two atoms within the cutoff"
    lines.append(f"  {distance}, {num_edges / sizes.sum():.1f} neighbors per atom")
    return lines


def _labels(graphs: Sequence[Graph]) -> str:
    found = {
        "energy": sum(graph.interaction_energy is not None for graph in graphs),
        "forces": sum(graph.forces is not None for graph in graphs),
        "stress": sum(graph.stress is not None for graph in graphs),
    }
    return ", ".join(f"{field} {_all_or_some(count, len(graphs))}" for field, count in found.items())


def _all_or_some(count: int, total: int) -> str:
    return {0: "in none", total: "in all"}.get(count, f"in {count} (missing in {total - count})")


def _warnings(name: str, graphs: Sequence[Graph]) -> list[str]:
    far = [graph for graph in graphs if abs(graph.interaction_energy or 0.0) > _LARGE_INTERACTION_ENERGY * graph.num_nodes]
    near = [graph for graph in graphs if _shortest(graph) < _SHORT_DISTANCE]
    lines = []
    if far:
        where = f"{_where(far)} ({far[0].interaction_energy / far[0].num_nodes:.1f} eV/atom)"
        advice = "do the atomic energies come from the same method, in eV?"
        lines.append(f"WARNING {name}: E - ΣE0 beyond {_LARGE_INTERACTION_ENERGY:.0f} eV/atom in {where}; {advice}")
    if near:
        lines.append(f"WARNING {name}: atoms closer than {_SHORT_DISTANCE} Å in {_where(near)} ({_shortest(near[0]):.3f} Å)")
    return lines


def _where(graphs: Sequence[Graph]) -> str:
    return f"{len(graphs)} configurations, first {graphs[0].source}"


def _shortest(graph: Graph) -> float:
    return float(graph.lengths().min(initial=np.inf))


def _range(values: Sequence[float] | np.ndarray, form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
