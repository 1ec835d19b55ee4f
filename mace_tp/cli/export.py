"""`mace-tp export`: a trained model as one compiled function in a file, checked against the model."""

import argparse
from pathlib import Path

import jax
import numpy as np

from mace_tp.config import Config, build_dtype
from mace_tp.data.configuration import Configuration
from mace_tp.data.neighbors import neighbor_list
from mace_tp.errors import InputError, TrainingError
from mace_tp.export import PLATFORMS, export_model
from mace_tp.exported import ExportedModel, load_exported
from mace_tp.saved_model import Model, load_model
from mace_tp.structure_field import StructureField

# Largest force of a check that is accepted, relative to the largest force: rounding of a few hundred operations.
_TOLERANCES = {"float32": 1e-4, "float64": 1e-10}
_SPACING = 1.6  # Å, between the atoms of the structures that are checked


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if options.out.exists() and not options.force:
        raise InputError(f"{options.out}: is there already; --force replaces it")
    model = load_model(options.model, None if options.dtype is None else build_dtype(Config(dtype=options.dtype)))
    part = options.out.with_name(options.out.name + ".part")
    try:
        export_model(part, model, options.platforms)
        print(
            _check(part, model) if jax.default_backend() in options.platforms else "not checked: jax runs on none of these platforms here"
        )
        part.replace(options.out)
    finally:
        part.unlink(missing_ok=True)
    size = options.out.stat().st_size / 1e6
    dtype = jax.tree.leaves(model.params)[0].dtype.name
    print(f"{options.out}: {size:.2f} MB, {dtype}, for {' and '.join(options.platforms)}; read it with mace_tp.exported.load_exported")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mace-tp export", description="A trained model as one compiled function in a file.")
    parser.add_argument("model", type=Path, help="run directory, or the folder `model` in it")
    parser.add_argument("out", type=Path, metavar="OUT", help="the new file")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: as trained")
    parser.add_argument("--platforms", nargs="+", choices=(*PLATFORMS, "rocm", "tpu"), default=list(PLATFORMS), help="(default: cpu cuda)")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    return parser


def _check(path: Path, model: Model) -> str:
    """Compare the file with the model on a cluster and a crystal of random elements; a line that says how far apart they are.

    Raises:
        TrainingError: further than by rounding.
    """
    exported, field = load_exported(path), StructureField(model)
    energies, forces = [], []
    for configuration in _structures(model.statistics.atomic_numbers):
        ours, theirs = field(configuration), _evaluate(exported, configuration, model.architecture.cutoff)
        energies.append(abs(ours.energy - theirs.energy) / configuration.num_atoms)
        forces.append(np.abs(ours.forces - theirs.forces).max())
        if not forces[-1] <= _TOLERANCES[exported.dtype] * max(np.abs(ours.forces).max(), 1.0):
            raise TrainingError(f"{path.name}: forces differ from those of the model by {forces[-1]:.2g} eV/Å; it is not written")
    return f"checked against the model: energies differ by {1000 * max(energies):.2g} meV/atom, forces by {1000 * max(forces):.2g} meV/Å"


def _structures(atomic_numbers: tuple[int, ...]) -> list[Configuration]:
    """A cluster of twelve atoms, and a crystal of eight."""
    rng = np.random.default_rng(0)
    structures = []
    for size, pbc in (((3, 2, 2), False), ((2, 2, 2), True)):
        cell = _SPACING * np.diag(size)
        grid = _SPACING * np.indices(size).reshape(3, -1).T
        positions = grid + rng.normal(scale=0.1, size=grid.shape)
        numbers = rng.choice(atomic_numbers, len(positions))
        structures.append(Configuration(numbers, positions, cell, (pbc,) * 3, None, None, None, "", "check"))
    return structures


def _evaluate(exported: ExportedModel, configuration: Configuration, cutoff: float):
    cell = configuration.cell if any(configuration.pbc) else np.zeros((3, 3))
    senders, receivers, shifts, _ = neighbor_list(configuration.positions, cell, configuration.pbc, cutoff)
    return exported(
        configuration.positions, configuration.atomic_numbers, senders, receivers, shifts, cell if any(configuration.pbc) else None
    )
