"""Parity plots of a data set: labels against predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mace_tp import plots
from mace_tp.data.graphs import Graph
from mace_tp.training.evaluate import ConfigurationPrediction


def draw_parity(graphs: Sequence[Graph], predicted: Sequence[ConfigurationPrediction], name: str, folder: Path) -> None:
    """Draw `parity_{energy,forces,stress}_NAME.png` for every kind that is labelled and predicted."""
    pairs = list(zip(graphs, predicted, strict=True))
    energies = [
        (g.interaction_energy / g.num_nodes, p.interaction_energy / g.num_nodes) for g, p in pairs if g.interaction_energy is not None
    ]
    forces = [(g.forces.ravel(), p.forces.ravel()) for g, p in pairs if g.forces is not None]
    stresses = [(g.stress.ravel(), p.stress.ravel()) for g, p in pairs if g.stress is not None and p.stress is not None]
    for values, quantity, unit in ((energies, "energy", "eV/atom"), (forces, "forces", "eV/Å"), (stresses, "stress", "eV/Å³")):
        if values:
            labels, predictions = (np.concatenate([np.atleast_1d(pair[i]) for pair in values]) for i in (0, 1))
            plots.parity(labels, predictions, quantity, unit, folder / f"parity_{quantity}_{name}.png", name)
