"""Molecular dynamics of a structure by ASE's integrators, recorded in samples."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import ase
import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from mace_tp.errors import InputError, TrainingError

# Relaxation times of the thermostat and barostat of NPT, in time steps, as ASE advises.
_THERMOSTAT_STEPS, _BAROSTAT_STEPS = 100, 1000
# K; a hotter structure has come apart.
_LOST = 1e5
_ADVICE = "a shorter --timestep or a better model may help; the steps before are kept"


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """The quantities held constant, and the integrator."""

    name: str
    integrator: "Callable[[ase.Atoms, Simulation, np.random.Generator], MolecularDynamics]"
    conserves_energy: bool
    conserves_momentum: bool
    changes_cell: bool  # requires a cell, and a calculator with stress


@dataclasses.dataclass(frozen=True)
class Simulation:
    """Settings of a run."""

    ensemble: Ensemble
    num_steps: int = 1000
    timestep: float = 0.5  # fs
    temperature: float = 300.0  # K, of the velocities at the start and of the thermostat
    friction: float = 0.01  # 1/fs, of Langevin's thermostat
    pressure: float = 0.0  # GPa, of the barostat
    interval: int = 10  # steps between samples
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Sample:
    """The state at one step of a run."""

    step: int
    time: float  # fs
    potential_energy: float  # eV
    kinetic_energy: float  # eV
    total_energy: float  # eV
    temperature: float  # K, of the motion relative to the center of mass
    volume: float | None  # Å³; None where nothing is periodic
    pressure: float | None  # GPa, kinetic part included; None where the calculator gives no stress


def draw_velocities(atoms: ase.Atoms, temperature: float, seed: int) -> None:
    """Give atoms the velocities of a temperature (K). Without constraints, which take up momentum, the net momentum is then removed."""
    thermalize_momenta(atoms, temperature, rng=np.random.default_rng(seed))
    if not atoms.constraints:
        Stationary(atoms, preserve_temperature=False)


def moving_degrees_of_freedom(num_atoms: int) -> int:
    """Degrees of freedom of atoms without a net momentum; one for a single atom, which stands still."""
    return max(3 * num_atoms - 3, 1)


def simulate(atoms: ase.Atoms, simulation: Simulation) -> Iterator[Sample]:
    """Run atoms that have a calculator and velocities.

    Yields a sample at the start, after every interval and at the end, when the atoms are in the state of the sample.

    Raises:
        InputError: the ensemble needs a cell or a stress that is missing, or cannot hold the constraints.
        TrainingError: atoms are lost: the structure has come apart.
    """
    _require_possible(atoms, simulation.ensemble)
    # Independent of the numbers that drew the velocities.
    rng = np.random.default_rng([simulation.seed, 1])
    dynamics = simulation.ensemble.integrator(atoms, simulation, rng)
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


def _require_possible(atoms: ase.Atoms, ensemble: Ensemble) -> None:
    if not ensemble.changes_cell:
        return
    if not all(atoms.pbc):
        raise InputError(f"ensemble {ensemble.name}: needs a structure that is periodic in all three directions")
    if atoms.constraints:
        raise InputError(f"ensemble {ensemble.name}: cannot hold constraints, which the structure has")
    atoms.get_potential_energy()
    if not _gives_stress(atoms):
        raise InputError(f"ensemble {ensemble.name}: needs the stress, which models with direct forces do not have")


def _gives_stress(atoms: ase.Atoms) -> bool:
    """Whether the calculator's last results hold a stress."""
    return atoms.calc is not None and "stress" in atoms.calc.results


def _sample(atoms: ase.Atoms, step: int, simulation: Simulation) -> Sample:
    potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
    temperature = _temperature(atoms, simulation.ensemble)
    if not math.isfinite(potential + kinetic):
        temperature = math.nan
    pressure = None
    if _gives_stress(atoms):
        pressure = float(-np.trace(atoms.get_stress(voigt=False, include_ideal_gas=True)) / 3 / units.GPa)
    volume = float(atoms.get_volume()) if any(atoms.pbc) and atoms.cell.rank == 3 else None
    return Sample(step, step * simulation.timestep, potential, kinetic, potential + kinetic, temperature, volume, pressure)


def _temperature(atoms: ase.Atoms, ensemble: Ensemble) -> float:
    """Twice the kinetic energy per degree of freedom, K. Where momentum is conserved, the motion of the center of mass does not count."""
    kinetic = atoms.get_kinetic_energy()
    if not ensemble.conserves_momentum or atoms.constraints:
        return float(2 * kinetic / (max(atoms.get_number_of_degrees_of_freedom(), 1) * units.kB))
    momentum = atoms.get_momenta().sum(axis=0)
    kinetic -= momentum @ momentum / (2 * atoms.get_masses().sum())
    return float(2 * kinetic / (moving_degrees_of_freedom(len(atoms)) * units.kB))


def _nve(atoms: ase.Atoms, simulation: Simulation, rng: np.random.Generator) -> MolecularDynamics:
    return VelocityVerlet(atoms, simulation.timestep * units.fs)


def _nvt(atoms: ase.Atoms, simulation: Simulation, rng: np.random.Generator) -> MolecularDynamics:
    friction = simulation.friction / units.fs
    return Langevin(atoms, simulation.timestep * units.fs, temperature_K=simulation.temperature, friction=friction, fixcm=False, rng=rng)


def _npt(atoms: ase.Atoms, simulation: Simulation, rng: np.random.Generator) -> MolecularDynamics:
    timestep = simulation.timestep * units.fs
    # ASE's thermostat holds a kinetic energy of 3N kT/2, although three degrees of freedom never move.
    temperature = simulation.temperature * moving_degrees_of_freedom(len(atoms)) / (3 * len(atoms))
    return IsotropicMTKNPT(
        atoms, timestep, temperature_K=temperature, pressure_au=simulation.pressure * units.GPa,
        tdamp=_THERMOSTAT_STEPS * timestep, pdamp=_BAROSTAT_STEPS * timestep,
    )  # fmt: skip


NVE = Ensemble("nve", _nve, conserves_energy=True, conserves_momentum=True, changes_cell=False)
"""Constant energy: velocity Verlet."""
NVT = Ensemble("nvt", _nvt, conserves_energy=False, conserves_momentum=False, changes_cell=False)
"""Constant temperature: Langevin."""
NPT = Ensemble("npt", _npt, conserves_energy=False, conserves_momentum=True, changes_cell=True)
"""Constant temperature and pressure: Martyna, Tobias, Klein."""
ENSEMBLES = {ensemble.name: ensemble for ensemble in (NVE, NVT, NPT)}
