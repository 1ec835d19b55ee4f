"""A short run of molecular dynamics at constant energy (NVE), to see whether the energy of a model stays constant."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from ase.data import atomic_masses as MASSES

from mace_tp.data.configuration import Configuration
from mace_tp.model.saved_model import Model
from mace_tp.model.structure_field import StructureField

# CODATA 2018: k_B in eV/K, and eV/(Å amu) in Å/fs².
_BOLTZMANN = 8.617333262e-5
_ACCELERATION = 9.648533212e-3
# Å; an atom that goes so far in one step is lost, and so is one that goes nowhere, to a place that is no number.
_LOST = 1.0


@dataclasses.dataclass(frozen=True)
class NVE:
    """What is run."""

    num_steps: int = 1000
    timestep: float = 0.5  # fs
    temperature: float = 300.0  # K, of the velocities at the start
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class EnergyDrift:
    """Kinetic energy plus that of the model's energy read-out, along a run; None where the run ended before it could be told."""

    drift: float | None  # slope of a line through the total energy, meV/atom/ps
    spread: float | None  # standard deviation of the total energy from this line, meV/atom
    final_temperature: float | None  # mean over the last tenth, K
    num_steps: int  # made; less than asked for if an atom was lost


@dataclasses.dataclass(frozen=True)
class Line:
    """A straight line through a total energy that should be constant."""

    drift: float  # its slope, meV/atom/ps
    spread: float  # standard deviation from it, meV/atom


Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Positions [atoms, 3] in Å → energy in eV and forces [atoms, 3] in eV/Å."""


def thermal_velocities(atomic_masses: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Velocities [atoms, 3] of Maxwell and Boltzmann, Å/fs.

    Args:
        atomic_masses: [atoms], amu.
        temperature: K.
        rng: source of the normal numbers.
    """
    width = np.sqrt(_BOLTZMANN * temperature * _ACCELERATION / atomic_masses)[:, None]
    return width * rng.normal(size=(len(atomic_masses), 3))


def maxwell_boltzmann(atomic_masses: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Thermal velocities [atoms, 3], Å/fs, without a net momentum."""
    velocities = thermal_velocities(atomic_masses, temperature, rng)
    return velocities - np.average(velocities, axis=0, weights=atomic_masses)


def moving_degrees_of_freedom(num_atoms: int) -> int:
    """Of atoms without a net momentum; one for a single atom, which stands still."""
    return max(3 * num_atoms - 3, 1)


def fit_line(times: Sequence[float] | np.ndarray, energies: Sequence[float] | np.ndarray, num_atoms: int) -> Line | None:
    """The line through total energies [times], eV, at times [times], fs; None for fewer than three, through which it would always go."""
    if len(times) < 3:
        return None
    picoseconds, total = np.asarray(times) / 1000, 1000 * np.asarray(energies) / num_atoms
    line = np.polynomial.Polynomial.fit(picoseconds, total, 1)
    return Line(drift=float(line.convert(domain=[-1, 1]).coef[1]), spread=float(np.std(total - line(picoseconds))))


def total_energies(evaluate: Evaluate, positions: np.ndarray, velocities: np.ndarray, atomic_masses: np.ndarray, nve: NVE) -> np.ndarray:
    """Potential and kinetic energy after every step [steps + 1, 2], eV, by velocity Verlet; fewer rows if an atom is lost."""
    mass = atomic_masses[:, None]
    energy, forces = evaluate(positions)
    energies = [(energy, _kinetic(velocities, mass))]
    for _ in range(nve.num_steps):
        velocities = velocities + nve.timestep / 2 * _ACCELERATION * forces / mass
        if not np.abs(nve.timestep * velocities).max() < _LOST:
            break
        positions = positions + nve.timestep * velocities
        energy, forces = evaluate(positions)
        velocities = velocities + nve.timestep / 2 * _ACCELERATION * forces / mass
        energies.append((energy, _kinetic(velocities, mass)))
    return np.array(energies)


def energy_drift(model: Model, configuration: Configuration, nve: NVE) -> EnergyDrift:
    """Run a configuration and look at its total energy, which the read-out of energies says, whatever the forces are."""
    atomic_masses = MASSES[configuration.atomic_numbers]
    velocities = maxwell_boltzmann(atomic_masses, nve.temperature, np.random.default_rng(nve.seed))
    field = StructureField(model)

    def evaluate(positions: np.ndarray) -> tuple[float, np.ndarray]:
        prediction = field(dataclasses.replace(configuration, positions=positions))
        return prediction.energy, prediction.forces

    energies = total_energies(evaluate, configuration.positions, velocities, atomic_masses, nve)
    return summarize_run(energies, configuration.num_atoms, nve)


def summarize_run(energies: np.ndarray, num_atoms: int, nve: NVE) -> EnergyDrift:
    """Potential and kinetic energies [steps + 1, 2], eV → the numbers people read."""
    num_steps = len(energies) - 1
    line = fit_line(nve.timestep * np.arange(num_steps + 1), energies.sum(axis=1), num_atoms)
    if line is None:
        return EnergyDrift(drift=None, spread=None, final_temperature=None, num_steps=num_steps)
    kinetic = energies[-max(1, num_steps // 10) :, 1].mean()
    temperature = float(2 * kinetic / (moving_degrees_of_freedom(num_atoms) * _BOLTZMANN))
    return EnergyDrift(line.drift, line.spread, temperature, num_steps)


def _kinetic(velocities: np.ndarray, mass: np.ndarray) -> float:
    return float(np.sum(mass * velocities**2) / 2 / _ACCELERATION)
