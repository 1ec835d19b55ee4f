"""Writes predictions beside the labels of the frames that they belong to."""

from collections.abc import Sequence
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from mace_tp.data.configuration import Configuration
from mace_tp.errors import InputError


def write_predictions(
    path: Path,
    configurations: Sequence[Configuration],
    energies: Sequence[float],
    forces: Sequence[np.ndarray],
    stresses: Sequence[np.ndarray],
) -> None:
    """Extended XYZ with `MACE_energy`, `MACE_forces` and, in cells with a volume, `MACE_stress` beside the labels.

    Args:
        path: the file to write, `.xyz` or `.extxyz`.
        configurations: with their labels, which are written under ASE's own keys.
        energies: total energies, eV.
        forces: [atoms, 3] each, eV/Å.
        stresses: [3, 3] each, eV/Å³.

    Raises:
        InputError: the file cannot be written.
    """
    frames = [_frame(*parts) for parts in zip(configurations, energies, forces, stresses, strict=True)]
    try:
        ase.io.write(path, frames, format="extxyz")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _frame(configuration: Configuration, energy: float, forces: np.ndarray, stress: np.ndarray) -> ase.Atoms:
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
    if np.any(stress):
        atoms.info["MACE_stress"] = stress
    return atoms
