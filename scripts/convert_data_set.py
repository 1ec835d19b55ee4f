"""Converts published data sets to extended XYZ in eV, Å and eV/Å.

    python scripts/convert_data_set.py spice SPICE-2.0.1.hdf5 spice.extxyz
    python scripts/convert_data_set.py rmd17 rmd17_ethanol.npz ethanol_train.extxyz --split index_train_01.csv

SPICE (Eastman et al. 2023) is HDF5 in atomic units and needs h5py. `mace-tp train` reads rMD17 archives itself; this script
selects the frames of a published split.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from mace_tp.data.rmd17 import read_rmd17

# CODATA 2018.
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Å


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=("spice", "rmd17"))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path, help="extended XYZ")
    parser.add_argument("--split", type=Path, help="of rmd17: a text file with the indices of the frames to write; default: all frames")
    options = parser.parse_args()
    frames = spice(options.source) if options.format == "spice" else rmd17(options.source, options.split)
    with open(options.out, "w", encoding="utf-8") as file:
        for atoms in frames:
            ase.io.write(file, atoms, format="extxyz")


def spice(path: Path) -> Iterator[ase.Atoms]:
    """Frames with finite labels. The file holds energies and their gradients; forces are minus the gradients.

    `config_type` is the name of SPICE's subset, `molecule` the name of the group.
    """
    import h5py

    with h5py.File(path) as file:
        for name, group in file.items():
            numbers = group["atomic_numbers"][()]
            subset = group["subset"][()][0].decode() if "subset" in group else ""
            arrays = (group[key][()] for key in ("conformations", "dft_total_energy", "dft_total_gradient"))
            for positions, energy, gradient in zip(*arrays, strict=True):
                if np.isfinite(energy) and np.isfinite(gradient).all():
                    atoms = _atoms(numbers, BOHR * positions, HARTREE * float(energy), -HARTREE / BOHR * gradient)
                    atoms.info |= {"config_type": subset.replace(" ", "_"), "molecule": name}
                    yield atoms


def rmd17(path: Path, split: Path | None) -> Iterator[ase.Atoms]:
    """The frames of a split, in its order."""
    frames = read_rmd17(path)
    for index in range(len(frames)) if split is None else np.loadtxt(split, dtype=int, ndmin=1):
        if not 0 <= index < len(frames):
            raise SystemExit(f"{split}: has the index {index}; {path} has {len(frames)} frames, counted from 0")
        frame = frames[index]
        yield _atoms(frame.atomic_numbers, frame.positions, frame.energy, frame.forces)


def _atoms(numbers: np.ndarray, positions: np.ndarray, energy: float, forces: np.ndarray) -> ase.Atoms:
    atoms = ase.Atoms(numbers, positions)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


if __name__ == "__main__":
    main()
