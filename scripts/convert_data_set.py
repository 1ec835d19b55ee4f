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

from mace_tp.data.ase_files import parser_errors
from mace_tp.data.rmd17 import read_rmd17
from mace_tp.errors import InputError
from mace_tp.run_directory import written_atomically

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
    try:
        convert(options.format, options.source, options.out, options.split)
    except InputError as error:
        raise SystemExit(str(error)) from error


def convert(format: str, source: Path, out: Path, split: Path | None = None) -> None:
    """Write the frames of a source. The output is complete, or as it was before.

    Raises:
        InputError: the source cannot be read or has no frames, or the output cannot be written.
    """
    for path in (source, *([split] if split else [])):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if out.exists() and out.samefile(path):
            raise InputError(f"{out}: is the source; give another file for the output")
    if format == "spice" and split:
        raise InputError("--split: is of rmd17; SPICE has no published splits of frames")
    frames = spice(source) if format == "spice" else rmd17(source, split)
    try:
        with written_atomically(out) as beside, open(beside, "w", encoding="utf-8") as file:
            count = 0
            for atoms in frames:
                ase.io.write(file, atoms, format="extxyz")
                count += 1
            if count == 0:
                raise InputError(f"{split or source}: gives no frames; {out} is not written")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from error
    print(f"{out}: {count} frames")


def spice(path: Path) -> Iterator[ase.Atoms]:
    """Frames with finite labels. The file holds energies and their gradients; forces are minus the gradients.

    `config_type` is the name of SPICE's subset, `molecule` the name of the group.

    Raises:
        InputError: h5py is not installed, or the file is damaged or not of SPICE.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError("SPICE is HDF5, which needs h5py: pip install h5py") from error
    with parser_errors(lambda said: f"{path}: damaged, or not a file of SPICE ({said})"), h5py.File(path) as file:
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
    """The frames of a split, in its order.

    Raises:
        InputError: the archive is damaged, or the split is not a list of indices of its frames.
    """
    frames = read_rmd17(path)
    with parser_errors(lambda said: f"{split}: not one index of a frame on each line ({said})"):
        indices = range(len(frames)) if split is None else [int(line) for line in split.read_text(encoding="utf-8").split()]
    for index in indices:
        if not 0 <= index < len(frames):
            raise InputError(f"{split}: has the index {index}; {path} has {len(frames)} frames, counted from 0")
        frame = frames[index]
        yield _atoms(frame.atomic_numbers, frame.positions, frame.energy, frame.forces)


def _atoms(numbers: np.ndarray, positions: np.ndarray, energy: float, forces: np.ndarray) -> ase.Atoms:
    atoms = ase.Atoms(numbers, positions)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


if __name__ == "__main__":
    main()
