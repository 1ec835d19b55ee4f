"""Writers of extended XYZ: predictions beside the labels of their frames, and graphs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator

from mace_tp.data.configuration import Configuration, FileFrame
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.extended_xyz import COMPRESSED
from mace_tp.data.graphs import Graph
from mace_tp.data.readable import readable
from mace_tp.errors import InputError
from mace_tp.run_directory import written_atomically

PREDICTED = {"energy": "MACE_energy", "forces": "MACE_forces", "stress": "MACE_stress"}
"""Names of predictions, by the fields of `LabelKeys`."""


def write_predictions(
    path: Path,
    configurations: Sequence[Configuration],
    energies: Sequence[float],
    forces: Sequence[np.ndarray],
    stresses: Sequence[np.ndarray | None],
) -> None:
    """Write extended XYZ with `MACE_energy`, `MACE_forces` and, in cells with a volume, `MACE_stress` beside the labels.

    Args:
        path: the file to write, `.xyz` or `.extxyz`. It is written completely or not at all.
        configurations: written with the full content of their files, except for earlier predictions, which are replaced. Labels of
            configurations that were not read from a file get ASE's own names.
        energies: total energies, eV.
        forces: [atoms, 3] each, eV/Å.
        stresses: [3, 3] each, eV/Å³; None if the model predicts none.

    Raises:
        InputError: the file cannot be written.
    """
    predicted = zip(configurations, energies, forces, stresses, strict=True)
    frames = [readable(_frame(*parts), parts[0].source) for parts in predicted]
    try:
        # ASE itself would use the encoding of the terminal.
        with written_atomically(path) as beside, COMPRESSED.get(path.suffix, open)(beside, "wt", encoding="utf-8") as file:
            ase.io.write(file, frames, format="extxyz")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def write_graphs(path: Path, graphs: Sequence[Graph], statistics: DatasetStatistics) -> None:
    """Write graphs as extended XYZ with their labels (energies are total energies) and their `source`.

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
        frames.append(readable(atoms, graph.source))
    with open(path, "w", encoding="utf-8") as file:
        ase.io.write(file, frames, format="extxyz")


def _frame(configuration: Configuration, energy: float, forces: np.ndarray, stress: np.ndarray | None) -> ase.Atoms:
    frame = configuration.frame or _own_frame(configuration)
    results = {name: value for name, value in frame.results.items() if name in all_properties and value is not None}
    atoms = ase.Atoms(
        numbers=configuration.atomic_numbers,
        positions=configuration.positions,
        cell=configuration.cell,
        pbc=configuration.pbc,
        constraint=frame.constraints,
        # ASE refuses a name that is also among the results. The reader has taken the label from the results.
        info={name: value for name, value in frame.info.items() if name not in results},
    )
    atoms.arrays |= {name: values for name, values in _columns(frame.arrays).items() if name not in results}
    if results:
        atoms.calc = SinglePointCalculator(atoms, **_columns(results))
    _replace_predictions(atoms, energy, forces, stress)
    return atoms


def _own_frame(configuration: Configuration) -> FileFrame:
    """A frame with the labels under ASE's own names."""
    info = {"config_type": configuration.config_type} if configuration.config_type else {}
    return FileFrame(path="", index=0, results=configuration.labels, info=info, arrays={}, constraints=())


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values per atom with several axes, such as Born charges [atoms, 3, 3], as columns [atoms, 9]."""
    return {name: value.reshape(len(value), -1) if np.ndim(value) > 2 else value for name, value in values.items()}


def _replace_predictions(atoms: ase.Atoms, energy: float, forces: np.ndarray, stress: np.ndarray | None) -> None:
    for name in PREDICTED.values():
        atoms.info.pop(name, None)
        atoms.arrays.pop(name, None)
    atoms.info[PREDICTED["energy"]] = energy
    atoms.arrays[PREDICTED["forces"]] = forces
    if stress is not None and np.any(stress):
        atoms.info[PREDICTED["stress"]] = np.ravel(stress)  # nine numbers, as ASE writes labels; it would write a matrix as JSON
