"""ASE's atoms as configurations, and back."""

import ase
import numpy as np

from mace_tp.data.configuration import Configuration


def configuration_of(atoms: ase.Atoms) -> Configuration:
    """The atoms and the cell, without labels. Arrays are shared, not copied."""
    first, second, third = (bool(periodic) for periodic in atoms.pbc)
    return Configuration(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        cell=np.asarray(atoms.cell),
        pbc=(first, second, third),
        energy=None,
        forces=None,
        stress=None,
        config_type="",
        source=f"atoms {atoms.get_chemical_formula()}" if len(atoms) else "atoms",
    )


def atoms_of(configuration: Configuration) -> ase.Atoms:
    """The structure alone, without labels."""
    return ase.Atoms(configuration.atomic_numbers, configuration.positions, cell=configuration.cell, pbc=configuration.pbc)
