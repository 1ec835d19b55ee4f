"""Writes predictions beside the labels of the frames that they belong to."""

from collections.abc import Sequence
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from mace_tp.data.configuration import Configuration
from mace_tp.data.graphs import Graph
from mace_tp.dataset_statistics import DatasetStatistics
from mace_tp.errors import InputError


def write_predictions(
    path: Path,
    configurations: Sequence[Configuration],
    energies: Sequence[float],
    forces: Sequence[np.ndarray],
    stresses: Sequence[np.ndarray | None],
) -> None:
    """Extended XYZ with `MACE_energy`, `MACE_forces` and, if there is one in cells with a volume, `MACE_stress` beside the labels.

    Args:
        path: the file to write, `.xyz` or `.extxyz`.
        configurations: with their labels, which are written under ASE's own keys.
        energies: total energies, eV.
        forces: [atoms, 3] each, eV/Å.
        stresses: [3, 3] each, eV/Å³; None where the model gives none.

    Raises:
        InputError: the file cannot be written.
    """
    frames = [_frame(*parts) for parts in zip(configurations, energies, forces, stresses, strict=True)]
    try:
        ase.io.write(path, frames, format="extxyz")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def write_graphs(path: Path, graphs: Sequence[Graph], statistics: DatasetStatistics) -> None:
    """Extended XYZ of graphs with the labels that they have, total energies included, and where each was read as `source`.

    Args:
        path: the file to write.
        graphs: in this order; positions are written centered, as the model sees them.
        statistics: elements and E0s.
    """
    frames = []
    for graph in graphs:
        numbers, energies = (np.array(values)[graph.species] for values in (statistics.atomic_numbers, statistics.atomic_energies))
        atoms = ase.Atoms(numbers=numbers, positions=graph.positions, cell=graph.cell, pbc=np.any(graph.cell, axis=1))
        energy = None if graph.interaction_energy is None else graph.interaction_energy + energies.sum()
        labels = {"energy": energy, "forces": graph.forces, "stress": graph.stress}
        atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in labels.items() if value is not None})
        atoms.info["source"] = graph.source
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")


def _frame(configuration: Configuration, energy: float, forces: np.ndarray, stress: np.ndarray | None) -> ase.Atoms:
    atoms = ase.Atoms(
        numbers=configuration.atomic_numbers, positions=configuration.positions, cell=configuration.cell, pbc=configuration.pbc
    )
    labels = {name: value for name, value in configuration.labels.items() if value is not None}
    if labels:
        atoms.calc = SinglePointCalculator(atoms, **labels)
    if configuration.config_type:
        atoms.info["config_type"] = configuration.config_type
    atoms.info["MACE_energy"] = energy
    atoms.arrays["MACE_forces"] = forces
    if stress is not None and np.any(stress):
        atoms.info["MACE_stress"] = stress
    return atoms
