"""Molecular dynamics of a structure by ASE's integrators, with a record of what it does."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import ase
import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.verlet import VelocityVerlet

from mace_tp.dynamics import maxwell_boltzmann
from mace_tp.errors import InputError, TrainingError

# Relaxation times of the thermostat and barostat of NPT, in time steps: ASE's advice.
_THERMOSTAT_STEPS, _BAROSTAT_STEPS = 100, 1000
# K; a structure that is hotter has come apart.
_LOST = 1e5


@dataclasses.dataclass(frozen=True)
class Simulation:
    """What is run."""

    ensemble: str = "nve"
    num_steps: int = 1000
    timestep: float = 0.5  # fs
    temperature: float = 300.0  # K: of the velocities at the start, and of the thermostat
    friction: float = 0.01  # 1/fs, of Langevin's thermostat
    pressure: float = 0.0  # GPa, of the barostat
    interval: int = 10  # steps between samples
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Sample:
    """One moment of a run."""

    step: int
    time: float  # fs
    potential_energy: float  # eV
    kinetic_energy: float  # eV
    total_energy: float  # eV
    temperature: float  # K
    volume: float | None  # Å³; None where nothing is periodic
    pressure: float | None  # GPa, that of the motion included; None where the calculator gives no stress


def simulate(atoms: ase.Atoms, simulation: Simulation) -> Iterator[Sample]:
    """Run atoms that have a calculator; a sample at the start, after every interval and at the end, with the atoms as they are then.

    Velocities at the start are drawn for the temperature, without a net momentum.

    Raises:
        InputError: the ensemble needs what the structure or the calculator does not have.
        TrainingError: atoms are lost: the structure has come apart.
    """
    require_possible(atoms, simulation)
    rng = np.random.default_rng(simulation.seed)
    atoms.set_velocities(maxwell_boltzmann(atoms.get_masses(), simulation.temperature, rng) / units.fs)
    dynamics = ENSEMBLES[simulation.ensemble](atoms, simulation, rng)
    yield _sample(atoms, 0, simulation)
    done = 0
    while done < simulation.num_steps:
        steps = min(simulation.interval, simulation.num_steps - done)
        try:
            dynamics.run(steps)
        except (InputError, FloatingPointError, np.linalg.LinAlgError) as error:
            raise TrainingError(f"atoms are lost between steps {done} and {done + steps} ({error}); {_ADVICE}") from error
        done += steps
        sample = _sample(atoms, done, simulation)
        if not sample.temperature < _LOST:
            raise TrainingError(f"atoms are lost before step {done}, where the temperature is {sample.temperature:.3g} K; {_ADVICE}")
        yield sample


def require_possible(atoms: ase.Atoms, simulation: Simulation) -> None:
    """Raise an InputError unless the structure can be in the ensemble."""
    if simulation.ensemble not in ENSEMBLES:
        raise InputError(f"ensemble {simulation.ensemble}: must be one of {', '.join(ENSEMBLES)}")
    if simulation.ensemble == "npt" and not all(atoms.pbc):
        raise InputError("ensemble npt: needs a structure that is periodic in all three directions")


_ADVICE = "a shorter --timestep or a better model may help; what came before is kept"


def energy_drift(samples: list[Sample], num_atoms: int) -> tuple[float, float] | None:
    """Slope of a line through the total energy (meV/atom/ps), and the standard deviation from it (meV/atom); None below three samples."""
    if len(samples) < 3:
        return None
    time = np.array([sample.time for sample in samples]) / 1000
    energy = np.array([sample.total_energy for sample in samples]) * 1000 / num_atoms
    line = np.polynomial.Polynomial.fit(time, energy, 1)
    return float(line.convert(domain=[-1, 1]).coef[1]), float(np.std(energy - line(time)))


def _sample(atoms: ase.Atoms, step: int, simulation: Simulation) -> Sample:
    potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
    temperature = float(atoms.get_temperature())
    if not math.isfinite(potential + kinetic):
        temperature = math.nan
    pressure = None
    if "stress" in atoms.calc.results:
        pressure = float(-np.trace(atoms.get_stress(voigt=False, include_ideal_gas=True)) / 3 / units.GPa)
    volume = float(atoms.get_volume()) if any(atoms.pbc) and atoms.cell.rank == 3 else None
    return Sample(step, step * simulation.timestep, potential, kinetic, potential + kinetic, temperature, volume, pressure)


def _nve(atoms: ase.Atoms, simulation: Simulation, rng: np.random.Generator) -> MolecularDynamics:
    return VelocityVerlet(atoms, simulation.timestep * units.fs)


def _nvt(atoms: ase.Atoms, simulation: Simulation, rng: np.random.Generator) -> MolecularDynamics:
    friction = simulation.friction / units.fs
    return Langevin(atoms, simulation.timestep * units.fs, temperature_K=simulation.temperature, friction=friction, fixcm=False, rng=rng)


def _npt(atoms: ase.Atoms, simulation: Simulation, rng: np.random.Generator) -> MolecularDynamics:
    timestep = simulation.timestep * units.fs
    return IsotropicMTKNPT(
        atoms, timestep, temperature_K=simulation.temperature, pressure_au=simulation.pressure * units.GPa,
        tdamp=_THERMOSTAT_STEPS * timestep, pdamp=_BAROSTAT_STEPS * timestep,
    )  # fmt: skip


ENSEMBLES: dict[str, Callable[[ase.Atoms, Simulation, np.random.Generator], MolecularDynamics]] = {"nve": _nve, "nvt": _nvt, "npt": _npt}
"""Constant energy (velocity Verlet), constant temperature (Langevin), constant temperature and pressure (Martyna, Tobias, Klein)."""
