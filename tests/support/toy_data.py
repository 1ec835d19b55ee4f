"""Labelled molecules and crystals that cost nothing, from ASE's effective medium theory potential."""

from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


def label(atoms: ase.Atoms, *names: str) -> ase.Atoms:
    """A copy with labels of the effective medium theory potential, as ASE writes them."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    results = {name: atoms.calc.get_property(name, atoms) for name in names}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def molecules(count: int, seed: int) -> list[ase.Atoms]:
    """Distorted molecules of 3 and 9 atoms, with energy and forces."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        atoms = molecule(("H2O", "CH3CH2OH")[index % 2])
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        frames.append(label(atoms, "energy", "forces"))
    return frames


def crystals(count: int, seed: int) -> list[ase.Atoms]:
    """Distorted copper cells smaller than the cutoff, with energy, forces and stress."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        strain = rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        frames.append(label(atoms, "energy", "forces", "stress"))
    return frames


def write(path: Path, frames: list[ase.Atoms]) -> Path:
    ase.io.write(path, frames, format="extxyz")
    return path


def isolated_atoms(*symbols: str) -> list[ase.Atoms]:
    frames = [label(ase.Atoms(symbol), "energy", "forces") for symbol in symbols]
    for frame in frames:
        frame.info["config_type"] = "IsolatedAtom"
    return frames
