"""Compares a model of mace-torch with its conversion by `mace-tp convert`: largest differences over a file, in float64.

Needs torch and mace-torch in the environment of mace-tp. The file is a pickle, which can run anything: give one that you trust.

    mace_run_train --name bpa --train_file train_300K.xyz --E0s "{1:-13.5872,6:-1029.4890,7:-1484.9815,8:-2041.9816}" \
        --energy_key energy --forces_key forces --num_channels 32 --max_L 1 --max_num_epochs 6 --default_dtype float64 --device cpu
    python benchmarks/compare_mace_torch.py bpa.model train_300K.xyz
"""

import argparse
import importlib.metadata
import os
from pathlib import Path

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn keeps slices in a file that torch >= 2.6 refuses to read

import ase.io
import numpy as np
import torch
from mace.calculators import MACECalculator

from mace_tp import Calculator
from mace_tp.model.mace_torch import convert, files
from mace_tp.runtime.devices import set_dtype


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("file", help="structures that ASE reads")
    parser.add_argument("--head", help="of a model with several")
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    dtype = set_dtype("float64")
    ours = Calculator(convert.to_model(files.read(options.model, options.head), dtype))
    theirs = MACECalculator(options.model, device="cpu", default_dtype="float64", head=options.head)
    frames = ase.io.read(options.file, ":")
    energies, forces, largest = [], [], []
    for atoms in frames:
        atoms.calc = None
        energies.append(abs(theirs.get_potential_energy(atoms) - ours.get_potential_energy(atoms)) / len(atoms))
        expected = theirs.get_forces(atoms)
        forces.append(np.abs(expected - ours.get_forces(atoms)).max())
        largest.append(np.abs(expected).max())
    packages = ("mace-torch", "torch", "jax", "jaxlib")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    print(f"{len(frames)} configurations, forces up to {max(largest):.3g} eV/Å, {ours.num_compilations} program compiled")
    print(f"largest differences: {max(energies):.2g} eV/atom, {max(forces):.2g} eV/Å")


if __name__ == "__main__":
    main()
