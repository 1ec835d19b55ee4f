"""`mace-tp export`: writes a trained model as one compiled function and checks the file against the model."""

import argparse
from pathlib import Path

import jax
import numpy as np

from mace_tp.cli.compilation_display import told_compilations
from mace_tp.cli.outputs import require_absent
from mace_tp.cli.signals import raising
from mace_tp.data.configuration import Configuration
from mace_tp.data.neighbors import neighbor_list
from mace_tp.errors import InputError, TrainingError
from mace_tp.model.export.load import ExportedModel, Result, load_exported, runs_here
from mace_tp.model.export.write import PLATFORMS, export_model
from mace_tp.model.potential import Potential, StructurePrediction
from mace_tp.model.saved_model import load_model
from mace_tp.run_directory import written_atomically
from mace_tp.runtime.compilation import compiling
from mace_tp.runtime.devices import set_dtype

# Largest accepted difference, relative to the largest number: rounding of a few hundred operations.
_TOLERANCES = {"float32": 1e-4, "float64": 1e-10}
_SPACING = 1.6  # Å, between the atoms of the structures for the check


@told_compilations()
def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    _check_place(options.out, options.force)
    # jax notes the source file of each operation; the regex removes the folders of this machine.
    jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*/")
    model = load_model(options.model, None if options.dtype is None else set_dtype(options.dtype))
    try:
        with raising(), written_atomically(options.out) as beside:
            with compiling(f"the model for {' and '.join(options.platforms)}", is_kept=False):
                export_model(beside, model, options.platforms)
            print(_check(beside, model) if runs_here(options.platforms) else "not checked: jax runs on none of these platforms here")
    except OSError as error:
        raise InputError(f"{options.out}: cannot be written ({error.strerror})") from error
    size = options.out.stat().st_size / 1e6
    dtype = model.dtype.name
    print(f"{options.out}: {size:.2f} MB, {dtype}, for {' and '.join(options.platforms)}; read it with mace_tp.load_exported")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mace-tp export", description="Write a trained model as one compiled function.")
    parser.add_argument("model", type=Path, help="run directory, or the folder `model` in it")
    parser.add_argument("out", type=Path, metavar="OUT", help="the new file")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: as trained")
    parser.add_argument("--platforms", nargs="+", choices=(*PLATFORMS, "rocm", "tpu"), default=list(PLATFORMS), help="(default: cpu cuda)")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    return parser


def _check_place(out: Path, force: bool) -> None:
    if out.is_dir():
        raise InputError(f"{out}: is a folder, must be a file")
    require_absent(out, force=force)
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}")


def _check(path: Path, model: Potential) -> str:
    """Compare the file with the model on a cluster and a crystal of random elements; return a line with the differences.

    Raises:
        TrainingError: they differ by more than rounding.
    """
    exported = load_exported(path)
    free_atoms = dict(zip(model.statistics.atomic_numbers, model.statistics.atomic_energies, strict=True))
    rows = []
    for configuration in _structures(model.statistics.atomic_numbers):
        ours = model.evaluate(configuration)
        with compiling("the function of the file, to check it"):
            theirs = _evaluate(exported, configuration, model.cutoff)
        interaction = ours.energies - [free_atoms[number] for number in configuration.atomic_numbers]
        rows.append(_differences(ours, theirs, interaction, _TOLERANCES[exported.dtype]))
    energy, force, stress = (1000 * max(column) for column in zip(*rows, strict=True))
    with_stress = f", stress by {stress:.2g} meV/Å³" if exported.has_stress else ""
    return f"checked against the model: energies differ by {energy:.2g} meV/atom, forces by {force:.2g} meV/Å{with_stress}"


def _differences(ours: StructurePrediction, theirs: Result, interaction: np.ndarray, tolerance: float) -> tuple[float, float, float]:
    """Return the largest differences: energy per atom in eV, force in eV/Å, stress in eV/Å³.

    Args:
        ours: prediction of the model.
        theirs: prediction of the file.
        interaction: energies of the atoms without E0 [atoms], eV; the file computes these in its dtype.
        tolerance: relative.

    Raises:
        TrainingError: they differ by more than rounding.
    """
    size = len(ours.energies)
    force = max(np.abs(ours.forces).max(), 1.0)
    if (ours.stress is None) != (theirs.stress is None):
        raise TrainingError("only one of the model and the file has a stress; the file is not written")
    # E0s are added in float64; their sum may be a million eV, so its rounding counts.
    energy = max(_SPACING * force, np.abs(interaction).max(), 1e-4 * np.abs(ours.energies).max())
    stress = (np.zeros(1), np.zeros(1)) if ours.stress is None or theirs.stress is None else (ours.stress, theirs.stress)
    differences: list[float] = []
    for name, unit, first, second, scale in (
        ("energies", "eV/atom", ours.energy / size, theirs.energy / size, energy),
        ("forces", "eV/Å", ours.forces, theirs.forces, force),
        ("stress", "eV/Å³", *stress, force / _SPACING**2),
    ):
        differences.append(float(np.abs(first - second).max()))
        if not differences[-1] <= tolerance * scale:
            found = f"{name} of the file differ from those of the model by {differences[-1]:.2g} {unit}"
            raise TrainingError(f"{found}; the file is not written")
    energy_difference, force_difference, stress_difference = differences
    return energy_difference, force_difference, stress_difference


def _structures(atomic_numbers: tuple[int, ...]) -> list[Configuration]:
    """Make a cluster of twelve atoms and a crystal of eight."""
    rng = np.random.default_rng(0)
    structures = []
    for size, pbc in (((3, 2, 2), False), ((2, 2, 2), True)):
        cell = _SPACING * np.diag(size)
        grid = _SPACING * np.indices(size).reshape(3, -1).T
        positions = grid + rng.normal(scale=0.1, size=grid.shape)
        numbers = rng.choice(atomic_numbers, len(positions))
        structures.append(Configuration(numbers, positions, cell, (pbc, pbc, pbc), None, None, None, "", "check"))
    return structures


def _evaluate(exported: ExportedModel, configuration: Configuration, cutoff: float):
    cell = configuration.cell if any(configuration.pbc) else np.zeros((3, 3))
    senders, receivers, shifts, _ = neighbor_list(configuration.positions, cell, configuration.pbc, cutoff)
    return exported(
        configuration.positions, configuration.atomic_numbers, senders, receivers, shifts, cell if any(configuration.pbc) else None
    )
