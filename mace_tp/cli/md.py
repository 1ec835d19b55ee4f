"""`mace-tp md`: runs molecular dynamics of a structure with a trained model."""

import argparse
import contextlib
import csv
import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import ase
import ase.io
from rich.progress import track

from mace_tp.cli.compilation_display import told_compilations
from mace_tp.cli.outputs import make_folder
from mace_tp.cli.signals import raising
from mace_tp.cli.standard_streams import outlived_output
from mace_tp.data.ase_files import read_structure
from mace_tp.errors import InputError
from mace_tp.runtime.compilation import shown_compilations
from mace_tp.runtime.environment import describe
from mace_tp.simulation.calculator import Calculator
from mace_tp.simulation.energy_drift import fit_line
from mace_tp.simulation.md import ENSEMBLES, NVE, Sample, Simulation, draw_velocities, simulate
from mace_tp.simulation.plots import draw_run

_TRAJECTORY, _LOG, _PICTURE = "trajectory.extxyz", "log.csv", "energies.png"


@told_compilations()
def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    simulation = Simulation(
        ENSEMBLES[options.ensemble], num_steps=options.steps, timestep=options.timestep, temperature=options.temperature,
        friction=options.friction, pressure=options.pressure, interval=options.interval, seed=options.seed,
    )  # fmt: skip
    _require_valid(simulation)
    _require_new(options.out)
    atoms = _read(options.structure, options.frame)
    if not options.keep_velocities:
        draw_velocities(atoms, simulation.temperature, simulation.seed)
    elif not atoms.has("momenta"):
        raise InputError(f"{options.structure} frame {options.frame}: has no velocities; leave --keep-velocities out to draw some")
    tell = functools.partial(print, file=sys.stderr)
    with outlived_output(lambda why: tell(f"mace-tp md: {why}; the run goes on and is written to {options.out}")):
        atoms.calc = Calculator(options.model, dtype=options.dtype, device=options.device)
        print(" · ".join(f"{name} {value}" for name, value in describe(atoms.calc.device, atoms.calc.dtype).items()))
        _run(atoms, simulation, options.out)


def _run(atoms: ase.Atoms, simulation: Simulation, folder: Path) -> None:
    samples: list[Sample] = []
    with raising():
        try:
            for sample in _record(atoms, simulation, folder):
                samples.append(sample)
        finally:  # a run that ends early still gets its picture
            if samples:
                _report(samples, len(atoms), simulation, folder)


def _parser() -> argparse.ArgumentParser:
    defaults = Simulation(NVE)
    parser = argparse.ArgumentParser(prog="mace-tp md", description="Run molecular dynamics with one trained model or several.")
    parser.add_argument("model", type=Path, nargs="+", help="run directory, or the folder `model` in it; several models are averaged")
    parser.add_argument("structure", type=Path, help="any format that ASE reads")
    parser.add_argument("--frame", type=int, default=0, help="frame of the structure's file, from 0; -1 is the last (default %(default)s)")
    parser.add_argument("--keep-velocities", action="store_true", help="continue with the velocities in the file (default: draw new ones)")
    parser.add_argument("--ensemble", choices=tuple(ENSEMBLES), default=defaults.ensemble.name, help="(default %(default)s)")
    parser.add_argument("--steps", type=int, default=defaults.num_steps, help="(default %(default)s)")
    parser.add_argument("--timestep", type=float, default=defaults.timestep, help="fs (default %(default)s)")
    parser.add_argument("--temperature", type=float, default=defaults.temperature, help="K (default %(default)s)")
    parser.add_argument("--friction", type=float, default=defaults.friction, help="of nvt, 1/fs (default %(default)s)")
    parser.add_argument("--pressure", type=float, default=defaults.pressure, help="of npt, GPa (default %(default)s)")
    parser.add_argument("--interval", type=int, default=defaults.interval, help="steps between frames and lines (default %(default)s)")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of velocities and thermostat (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("md"), help="new folder (default %(default)s)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: as trained")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    return parser


def _require_valid(simulation: Simulation) -> None:
    positive = {"--steps": simulation.num_steps, "--timestep": simulation.timestep, "--interval": simulation.interval}
    for flag, value in (positive | {"--temperature": simulation.temperature, "--friction": simulation.friction}).items():
        if not 0 < value < math.inf:
            raise InputError(f"{flag} {value}: must be positive")
    if not math.isfinite(simulation.pressure):
        raise InputError(f"--pressure {simulation.pressure}: must be a finite number")
    if simulation.seed < 0:
        raise InputError(f"--seed {simulation.seed}: must be 0 or larger")


def _read(path: Path, frame: int) -> ase.Atoms:
    atoms = read_structure(path, frame)
    if not len(atoms):
        raise InputError(f"{path} frame {frame}: has no atoms")
    # Labels and other entries of the file would be wrong after the first step.
    kept = {"numbers", "positions", "masses", "momenta"}
    for name in set(atoms.arrays) - kept:
        del atoms.arrays[name]
    atoms.info, atoms.calc = {}, None
    return atoms


def _require_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--out {folder}: is there already; give a new folder")


def _record(atoms: ase.Atoms, simulation: Simulation, folder: Path) -> Iterator[Sample]:
    """Yield the samples of a run and write each at once, so that a run that ends early leaves its files."""
    stream = simulate(atoms, simulation)
    first = next(stream)  # raises for a run that cannot start, before there is a folder
    make_folder("--out", folder)
    total = -(-simulation.num_steps // simulation.interval) + 1
    # The progress bar of the run replaces the display of compilations.
    with open(folder / _LOG, "w", newline="", encoding="utf-8") as file, shown_compilations(contextlib.nullcontext):
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Sample)])
        writer.writeheader()
        for sample in track(itertools.chain([first], stream), simulation.ensemble.name.upper(), total):
            writer.writerow(dataclasses.asdict(sample))
            file.flush()
            atoms.info["time_fs"] = sample.time
            ase.io.write(folder / _TRAJECTORY, atoms, append=True)
            yield sample


def _report(samples: Sequence[Sample], num_atoms: int, simulation: Simulation, folder: Path) -> None:
    last = samples[len(samples) // 2 :]
    mean = sum(sample.temperature for sample in last) / len(last)
    print(f"{samples[-1].step} steps of {simulation.timestep:g} fs; mean temperature of the second half {mean:.0f} K")
    title = f"{simulation.ensemble.name.upper()}, {num_atoms} atoms, {simulation.timestep:g} fs, {simulation.temperature:g} K"
    line = fit_line([sample.time for sample in samples], [sample.total_energy for sample in samples], num_atoms)
    if line is not None and simulation.ensemble.conserves_energy:
        drift = f"total energy: drift {line.drift:.3g} meV/atom/ps, spread {line.spread:.3g} meV/atom"
        print(drift)
        title += f"\n{drift}"
    draw_run(samples, num_atoms, title, folder / _PICTURE)
    print(f"{folder}: {_TRAJECTORY}, {_LOG}, {_PICTURE}")
