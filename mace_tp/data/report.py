"""Description of the data in the lines that are printed before a training."""

from collections.abc import Mapping, Sequence

import numpy as np

from mace_tp.data.buckets import Bucket, estimated_padding
from mace_tp.data.configuration import LabelWeights
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.elements import symbols
from mace_tp.data.graphs import Graph


def describe_parts(parts: Mapping[str, Sequence[Graph]], atomic_numbers: Sequence[int]) -> list[str]:
    """Sizes, elements, labels, ranges and neighbors of every part.

    Args:
        parts: {name: graphs} of training, validation and test sets; a part may be empty.
        atomic_numbers: Z of the species.
    """
    return [line for name, graphs in parts.items() for line in (_part_lines(name, graphs, atomic_numbers) if graphs else [f"{name}: none"])]


def describe_batches(
    graphs: Sequence[Graph], statistics: DatasetStatistics, buckets: Sequence[Bucket], batch_size: int, seed: int = 0
) -> list[str]:
    """Shapes and padding of a loader's batches, and the statistics that the model takes from the data.

    Args:
        graphs: the training set, at least one graph.
        statistics: of the training set.
        buckets: the training loader's.
        batch_size: the training loader's.
        seed: the training loader's.
    """
    shapes = ", ".join(f"{bucket.nodes} nodes x {bucket.edges} edges" for bucket in buckets)
    padding = estimated_padding(graphs, buckets, batch_size, seed)
    scale = f"scale {statistics.scale:.4f} eV/Å, shift {statistics.shift:.4f} eV/atom"
    return [
        f"batches of {batch_size}: padded to {shapes}; {padding:.0%} of the edge slots are padding",
        f"statistics: {scale}, {statistics.avg_num_neighbors:.2f} neighbors per atom",
    ]


def _part_lines(name: str, graphs: Sequence[Graph], atomic_numbers: Sequence[int]) -> list[str]:
    sizes = np.array([graph.num_nodes for graph in graphs])
    present = np.unique(np.concatenate([graph.species for graph in graphs]))
    elements = symbols(atomic_numbers[species] for species in present)
    lines = [f"{name}: {len(graphs)} configurations, {sizes.sum()} atoms ({_range(sizes, 'd')} each), elements {elements}"]
    lines.append(f"  labels: {_labels(graphs)}")
    if any(graph.weights is not None for graph in graphs):
        lines.append(f"  weights of their configurations in the loss: {_weights(graphs)}")
    energies = [graph.interaction_energy / graph.num_nodes for graph in graphs if graph.interaction_energy is not None]
    if energies:
        lines.append(f"  interaction energy E - ΣE0: {_range(energies, '.3f')} eV/atom")
    forces = [graph.forces.ravel() for graph in graphs if graph.forces is not None]
    if forces:
        components = np.concatenate(forces)
        lines.append(f"  forces: RMS {np.sqrt(np.mean(components**2)):.3f} eV/Å, largest component {np.abs(components).max():.3f} eV/Å")
    stresses = [graph.stress.ravel() for graph in graphs if graph.stress is not None]
    if stresses:
        components = np.concatenate(stresses)
        lines.append(f"  stress: RMS {np.sqrt(np.mean(components**2)):.4g} eV/Å³, largest component {np.abs(components).max():.4g} eV/Å³")
    num_edges, shortest = sum(graph.num_edges for graph in graphs), min(graph.shortest_length() for graph in graphs)
    distance = f"shortest distance {shortest:.3f} Å" if num_edges else "no two atoms within the cutoff"
    neighbors = np.concatenate([np.bincount(graph.receivers[graph.edge_mask], minlength=graph.num_nodes) for graph in graphs])
    lines.append(f"  {distance}, {num_edges / sizes.sum():.1f} neighbors per atom ({_range(neighbors, 'd')})")
    return lines


def _labels(graphs: Sequence[Graph]) -> str:
    found = {
        "energy": sum(graph.interaction_energy is not None for graph in graphs),
        "forces": sum(graph.forces is not None for graph in graphs),
        "stress": sum(graph.stress is not None for graph in graphs),
    }
    return ", ".join(f"{field} {_all_or_some(count, len(graphs))}" for field, count in found.items())


def _weights(graphs: Sequence[Graph]) -> str:
    columns = zip(*(graph.weights or LabelWeights() for graph in graphs), strict=True)
    return ", ".join(f"{field} {_range(values, 'g')}{_num_zero(values)}" for field, values in zip(LabelWeights._fields, columns))


def _num_zero(weights: Sequence[float]) -> str:
    count = sum(weight == 0 for weight in weights)
    return f" (zero in {count}, whose labels are not used)" if count else ""


def _all_or_some(count: int, total: int) -> str:
    return {0: "in none", total: "in all"}.get(count, f"in {count} (missing in {total - count})")


def _range(values: Sequence[float] | np.ndarray, form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
