"""Drift of the total energy in a short run of molecular dynamics at constant energy (NVE)."""

import dataclasses
from collections.abc import Sequence

import ase
import numpy as np
from ase import units
from ase.md.verlet import VelocityVerlet

from mace_tp.data.atoms import atoms_of
from mace_tp.data.configuration import Configuration
from mace_tp.errors import InputError
from mace_tp.model.potential import Potential
from mace_tp.simulation.calculator import Calculator
from mace_tp.simulation.md import draw_velocities, moving_degrees_of_freedom

# Å; an atom that would move farther in one step, or to a position that is not a number, is lost.
_LOST = 1.0


@dataclasses.dataclass(frozen=True)
class NVERun:
    """Settings of the run."""

    num_steps: int = 1000
    timestep: float = 0.5  # fs
    temperature: float = 300.0  # K, of the velocities at the start
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class EnergyDrift:
    """Drift of the kinetic energy plus the model's energy. None where the run ended too early to measure a value."""

    drift: float | None  # slope of a line through the total energy, meV/atom/ps
    spread: float | None  # standard deviation of the total energy from this line, meV/atom
    final_temperature: float | None  # mean over the last tenth, K
    num_steps: int  # steps made; fewer than asked for if an atom was lost


@dataclasses.dataclass(frozen=True)
class Line:
    """A straight line through a total energy that should be constant."""

    drift: float  # its slope, meV/atom/ps
    spread: float  # standard deviation from it, meV/atom


def fit_line(times: Sequence[float] | np.ndarray, energies: Sequence[float] | np.ndarray, num_atoms: int) -> Line | None:
    """Fit a line to total energies [times], eV, at times [times], fs; None for fewer than three points, which every line fits."""
    if len(times) < 3:
        return None
    picoseconds, total = np.asarray(times) / 1000, 1000 * np.asarray(energies) / num_atoms
    line = np.polynomial.Polynomial.fit(picoseconds, total, 1)
    return Line(drift=float(line.convert(domain=[-1, 1]).coef[1]), spread=float(np.std(total - line(picoseconds))))


def energy_drift(potential: Potential, configuration: Configuration, run: NVERun, device: str = "auto") -> EnergyDrift:
    """Run a configuration and measure the drift of its total energy, with the model's energy and its forces, gradient or not."""
    atoms = atoms_of(configuration)
    atoms.calc = Calculator(potential, device=device)
    draw_velocities(atoms, run.temperature, run.seed)
    return summarize_run(total_energies(atoms, run), len(atoms), run)


def total_energies(atoms: ase.Atoms, run: NVERun) -> np.ndarray:
    """Potential and kinetic energy at the start and after every step of velocity Verlet [steps + 1, 2], eV; fewer rows if an atom is lost.

    Args:
        atoms: with a calculator and velocities.
        run: number and length of the steps.
    """
    dynamics = VelocityVerlet(atoms, run.timestep * units.fs)
    energies = [(atoms.get_potential_energy(), atoms.get_kinetic_energy())]
    for _ in range(run.num_steps):
        halfway = atoms.get_velocities() + dynamics.dt / 2 * atoms.get_forces() / atoms.get_masses()[:, None]
        if not np.abs(dynamics.dt * halfway).max() < _LOST:
            break
        try:
            dynamics.step()
        except InputError:  # two atoms at one place
            break
        energies.append((atoms.get_potential_energy(), atoms.get_kinetic_energy()))
    return np.array(energies)


def summarize_run(energies: np.ndarray, num_atoms: int, run: NVERun) -> EnergyDrift:
    """Drift, spread and temperature from potential and kinetic energies [steps + 1, 2], eV."""
    num_steps = len(energies) - 1
    line = fit_line(run.timestep * np.arange(num_steps + 1), energies.sum(axis=1), num_atoms)
    if line is None:
        return EnergyDrift(drift=None, spread=None, final_temperature=None, num_steps=num_steps)
    kinetic = energies[-max(1, num_steps // 10) :, 1].mean()
    temperature = float(2 * kinetic / (moving_degrees_of_freedom(num_atoms) * units.kB))
    return EnergyDrift(line.drift, line.spread, temperature, num_steps)
