"""Plots of a data set: predictions against labels, and their differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mace_tp.data.elements import symbol
from mace_tp.data.graphs import Graph
from mace_tp.evaluation.batches import ConfigurationPrediction
from mace_tp.evaluation.error_plots import Errors, Pairs, histograms_figure, parity_by_element_figure
from mace_tp.evaluation.errors_by_group import ConfigurationErrors, force_components
from mace_tp.evaluation.metrics import MILLI
from mace_tp.evaluation.parity_figures import parity
from mace_tp.plotting import DPI


def draw_parity(graphs: Sequence[Graph], predicted: Sequence[ConfigurationPrediction], name: str, folder: Path) -> None:
    """Draw `parity_{energy,forces,stress}_NAME.png` for each kind that is labelled and predicted."""
    pairs = list(zip(graphs, predicted, strict=True))
    energies = [
        (g.interaction_energy / g.num_nodes, p.interaction_energy / g.num_nodes) for g, p in pairs if g.interaction_energy is not None
    ]
    forces = [(g.forces.ravel(), p.forces.ravel()) for g, p in pairs if g.forces is not None]
    stresses = [(g.stress.ravel(), p.stress.ravel()) for g, p in pairs if g.stress is not None and p.stress is not None]
    kinds = {
        "energy": ("energy without E0s", "eV/atom", energies),
        "forces": ("forces", "eV/Å", forces),
        "stress": ("stress", "eV/Å³", stresses),
    }
    for kind, (quantity, unit, values) in kinds.items():
        if values:
            labels, predictions = (np.concatenate([np.atleast_1d(pair[i]) for pair in values]) for i in (0, 1))
            parity(labels, predictions, quantity, unit, folder / f"parity_{kind}_{name}.png", name)


def draw_errors(errors: Sequence[ConfigurationErrors], name: str, folder: Path) -> None:
    """Draw histograms, `errors_NAME.png`, and, if forces of several elements are labelled, `parity_elements_NAME.png`."""
    elements = force_components(errors)
    elements = elements if len(elements) > 1 else {}
    kinds = _histograms(errors, elements)
    if kinds:
        histograms_figure(kinds, name).savefig(folder / f"errors_{name}.png", dpi=DPI)
    if elements:
        parity_by_element_figure(_pairs(errors, elements), name).savefig(folder / f"parity_elements_{name}.png", dpi=DPI)


def _histograms(errors: Sequence[ConfigurationErrors], elements: Mapping[str, np.ndarray]) -> list[Errors]:
    energies = [error.energy_per_atom for error in errors if error.energy_per_atom is not None]
    forces = [MILLI * error.forces.ravel() for error in errors if error.forces is not None]
    stresses = [MILLI * error.stress.ravel() for error in errors if error.stress is not None]
    parts = {element: MILLI * values for element, values in elements.items()}
    kinds = []
    if energies:
        kinds.append(Errors("energy", "meV/atom", np.array(energies), {}))
    if forces:
        kinds.append(Errors("force components", "meV/Å", np.concatenate(forces), parts))
    if stresses:
        kinds.append(Errors("stress components", "meV/Å³", np.concatenate(stresses), {}))
    return kinds


def _pairs(errors: Sequence[ConfigurationErrors], elements: Mapping[str, np.ndarray]) -> dict[str, Pairs]:
    """Labels and predictions (label + error) of each element."""
    configurations = [error.configuration for error in errors if error.forces is not None]
    numbers = np.concatenate([configuration.atomic_numbers for configuration in configurations])
    labels = np.concatenate([configuration.forces for configuration in configurations])
    symbols = np.array([symbol(int(number)) for number in numbers])
    return {element: Pairs(labels[symbols == element], labels[symbols == element] + values) for element, values in elements.items()}
