"""Inspection of structure files without a training: their content, and signs of mistakes."""

import dataclasses
from collections.abc import Mapping, Sequence

from mace_tp.data.batching import choose_buckets
from mace_tp.data.configuration import Configuration, LabelKeys
from mace_tp.data.elements import symbols
from mace_tp.data.graphs import build_graphs
from mace_tp.data.readers import hint_at_labels, label_keys, read_configurations
from mace_tp.data.report import describe_batches, describe_parts
from mace_tp.data.splits import read_isolated_atoms, separate_isolated_atoms
from mace_tp.data.statistics import atomic_energies, compute_statistics
from mace_tp.data.suspicions import suspicions
from mace_tp.data.unused import ignored_states
from mace_tp.data.weights import weigh, weightless
from mace_tp.errors import InputError


def inspect_files(
    paths: Sequence[str], keys: LabelKeys, *, isolated_atoms: str | None, cutoff: float, batch_size: int
) -> tuple[list[str], list[str]]:
    """Read files as a training would, but skip frames that cannot be used.

    Args:
        paths: the first file serves as the training set.
        keys: names of the labels.
        isolated_atoms: a file of isolated atoms for the E0s. Without it the E0s come from tagged frames, else from least squares.
        cutoff: Å, of the neighbors.
        batch_size: determines the padding.

    Returns:
        (lines that describe the data, lines of warning).

    Raises:
        InputError: a file has no frame that can be used.
    """
    frames: dict[str, list[Configuration]] = {}
    known: dict[int, float] = read_isolated_atoms(isolated_atoms, keys, cutoff) if isolated_atoms else {}
    lines, unused = [], []
    for path in paths:
        structures, tagged = separate_isolated_atoms(read_configurations(path, keys, skip_bad=True))
        hint_at_labels(structures, dataclasses.asdict(keys), path)
        frames[path] = weigh(structures, {})
        unused += [f"{path}: the {field} of every frame has weight zero; a training cannot use it" for field in weightless(frames[path])]
        known = tagged | known
        lines.append(f"{path}: keys {', '.join(label_keys(path)) or 'none'}" + (f"; isolated atoms {symbols(tagged)}" if tagged else ""))
    everything = [frame for part in frames.values() for frame in part]
    if not everything:
        raise InputError(f"{', '.join(paths)}: no structures besides isolated atoms")
    energies, origin = _energies(everything, known)
    parts = {path: build_graphs(part, tuple(energies), tuple(energies.values()), cutoff) for path, part in frames.items()}
    first = next(path for path in paths if frames[path])
    statistics = compute_statistics(frames[first], parts[first], energies)
    lines += [origin, *describe_parts(parts, statistics.atomic_numbers)]
    lines += describe_batches(parts[first], statistics, choose_buckets(parts[first], batch_size), batch_size)
    fitted = not set(energies) <= set(known)
    doubts = suspicions(parts, statistics.atomic_numbers, statistics.atomic_energies, energies_are_fitted=fitted)
    return lines, unused + ignored_states(everything) + doubts


def _energies(configurations: Sequence[Configuration], known: Mapping[int, float]) -> tuple[dict[int, float], str]:
    """E0s of isolated atoms if all are known, else of least squares, else zero; and a line that describes them."""
    numbers = {int(number) for configuration in configurations for number in configuration.atomic_numbers}
    if numbers <= set(known):
        return atomic_energies("isolated", configurations, known)
    if any(configuration.energy is not None for configuration in configurations):
        return atomic_energies("least_squares", configurations, {})
    return dict.fromkeys(sorted(numbers), 0.0), "no energies, so E0s are zero"
