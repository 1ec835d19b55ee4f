"""The numbers that a model takes from its training set: E0s, neighbors, scale and shift."""

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mace_tp.data.configuration import Configuration
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.elements import atomic_number, symbol, symbols
from mace_tp.data.graphs import Graph
from mace_tp.errors import InputError

_LOG = logging.getLogger("mace_tp")


def atomic_energies(
    choice: str | Mapping[str, float],
    configurations: Sequence[Configuration],
    isolated: Mapping[int, float],
    of_model: Mapping[int, float] | None = None,
) -> tuple[dict[int, float], str]:
    """The E0 of every element of the configurations.

    Args:
        choice: `isolated` (energies of isolated atoms), `least_squares` (the composition's share of the labelled energies),
            `model` (of the model that the training starts from), or a mapping {symbol: eV}.
        configurations: the training set.
        isolated: {Z: eV} of the known isolated atoms.
        of_model: {Z: eV} of the model that the training starts from; None without such a model.

    Returns:
        ({Z: eV}, ascending Z; a line to print that names their source).

    Raises:
        InputError: an element has no energy, a symbol is unknown, or the choice is none of these.
    """
    numbers = sorted({int(number) for configuration in configurations for number in configuration.atomic_numbers})
    if isinstance(choice, Mapping):
        energies, origin = _mapped(choice, numbers), "given in data.atomic_energies"
    elif choice == "isolated":
        energies, origin = _isolated(isolated, numbers), "isolated atoms"
    elif choice == "least_squares":
        energies, origin = _least_squares(configurations, numbers), "least squares over the training energies"
    elif choice == "model":
        energies, origin = _of_model(of_model, numbers), "those of model.init_from"
    else:
        raise InputError(f"data.atomic_energies={choice}: must be isolated, least_squares, model, or a mapping such as {{H: -13.6}}")
    return energies, describe_energies(energies, origin)


def describe_energies(energies: Mapping[int, float], origin: str) -> str:
    """A line with the E0 of every element ({Z: eV}) and their origin."""
    listed = ", ".join(f"{symbol(number)} {energy:.4f}" for number, energy in energies.items())
    return f"atomic energies E0 ({origin}): {listed} eV"


def compute_statistics(
    configurations: Sequence[Configuration], graphs: Sequence[Graph], atomic_energies: Mapping[int, float]
) -> DatasetStatistics:
    """Statistics of a training set.

    The scale is the root mean square of all labelled force components, or one if there are none or all are zero.
    The shift is the mean of (E - sum of E0) per atom over labelled configurations, or zero if there are none.
    The average number of neighbors counts only atoms with neighbors, as in ACEsuit's MACE. It is one if no atom has any, because models
    divide by it.

    Args:
        configurations: the training set.
        graphs: its graphs, for the edges.
        atomic_energies: {Z: E0 in eV} of every element.
    """
    elements = tuple(sorted(atomic_energies))
    forces = [configuration.forces.ravel() for configuration in configurations if configuration.forces is not None]
    shifts = [
        (configuration.energy - sum(atomic_energies[int(number)] for number in configuration.atomic_numbers)) / configuration.num_atoms
        for configuration in configurations
        if configuration.energy is not None
    ]
    scale = math.sqrt(np.mean(np.concatenate(forces) ** 2)) if forces else 0.0
    num_edges, num_receivers = sum(graph.num_edges for graph in graphs), sum(len(np.unique(graph.receivers)) for graph in graphs)
    return DatasetStatistics(
        atomic_numbers=elements,
        atomic_energies=tuple(float(atomic_energies[number]) for number in elements),
        avg_num_neighbors=num_edges / num_receivers if num_edges else 1.0,
        scale=scale or 1.0,
        shift=float(np.mean(shifts)) if shifts else 0.0,
    )


def _mapped(choice: Mapping[str, float], numbers: Sequence[int]) -> dict[int, float]:
    given = {atomic_number(name, "data.atomic_energies"): energy for name, energy in choice.items()}
    for number, energy in given.items():
        if isinstance(energy, bool) or not isinstance(energy, int | float) or not math.isfinite(energy):
            raise InputError(f"data.atomic_energies: {symbol(number)} is {energy!r}; must be a finite number, in eV")
    missing = [number for number in numbers if number not in given]
    if missing:
        raise InputError(f"data.atomic_energies: no energy for {symbols(missing)}; the training set has {symbols(numbers)}")
    return {number: float(given[number]) for number in numbers}


def _isolated(isolated: Mapping[int, float], numbers: Sequence[int]) -> dict[int, float]:
    missing = [number for number in numbers if number not in isolated]
    if missing:
        advice = "give a file in data.isolated_atoms, tag frames config_type=IsolatedAtom, or set data.atomic_energies=least_squares"
        raise InputError(f"data.atomic_energies=isolated: no isolated atom of {symbols(missing)}; {advice}")
    return {number: float(isolated[number]) for number in numbers}


def _of_model(known: Mapping[int, float] | None, numbers: Sequence[int]) -> dict[int, float]:
    if known is None:
        raise InputError("data.atomic_energies=model: takes the E0s of model.init_from, which is not set")
    if missing := [number for number in numbers if number not in known]:
        raise InputError(f"data.atomic_energies=model: model.init_from does not know {symbols(missing)}; its elements are {symbols(known)}")
    return {number: known[number] for number in numbers}


def _least_squares(configurations: Sequence[Configuration], numbers: Sequence[int]) -> dict[int, float]:
    labelled = [configuration for configuration in configurations if configuration.energy is not None]
    if not labelled:
        raise InputError("data.atomic_energies=least_squares: no configuration has an energy; give isolated atoms or a mapping")
    counts = np.array([[(frame.atomic_numbers == number).sum() for number in numbers] for frame in labelled], np.float64)
    energies = np.array([frame.energy for frame in labelled], np.float64)
    solution, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=None)
    if rank < len(numbers):
        _LOG.warning(
            "least squares: the compositions determine only %d of the %d atomic energies (%s); the fit with the smallest energies is used, "
            "so do not trust energies of other compositions", rank, len(numbers), symbols(numbers),
        )  # fmt: skip
    return dict(zip(numbers, solution.tolist(), strict=True))
