"""A run at constant energy: closed forms of a spring, the start, and models whose atoms move far."""

import dataclasses

import ase
import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import Calculator, all_changes

from mace_tp.model.saved_model import create_model
from mace_tp.simulation.energy_drift import NVERun, energy_drift, summarize_run, total_energies
from mace_tp.simulation.md import draw_velocities
from mace_tp.tensor_products.registry import TensorProductConfig

# eV/Å per amu in Å/fs²; eV/K
ACCELERATION, BOLTZMANN = 9.648533212e-3, 8.617333262e-5


class Spring(Calculator):
    """A spring to the origin (eV/Å²), and a force that swirls around the z axis, which no energy has (eV/Å²)."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, stiffness: float, swirl: float = 0.0) -> None:
        super().__init__()
        self._stiffness, self._swirl = stiffness, swirl

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        positions = self.atoms.positions
        forces = self._swirl * np.stack([-positions[:, 1], positions[:, 0], 0 * positions[:, 0]], axis=1)
        self.results = {"energy": self._stiffness * np.sum(positions**2) / 2, "forces": forces - self._stiffness * positions}


def _atom(mass: float, position: float, speed: float, spring: Spring) -> ase.Atoms:
    """One atom at a place on the x axis, Å, which moves along y, Å/fs."""
    atoms = ase.Atoms("H", [[position, 0, 0]], masses=[mass], calculator=spring)
    atoms.set_velocities([[0, speed / units.fs, 0]])
    return atoms


def test_a_spring_swings_with_its_frequency_and_keeps_its_energy():
    stiffness, mass, amplitude = 5.0, 12.0, 0.1
    period = 2 * np.pi / np.sqrt(stiffness / mass * ACCELERATION)
    run = NVERun(num_steps=1000, timestep=period / 1000)

    energies = total_energies(_atom(mass, amplitude, 0.0, Spring(stiffness)), run)

    # cos² over a period; Verlet's relative error is (ω dt)² / 8, or 5e-6.
    time = np.arange(1001) / 1000
    np.testing.assert_allclose(energies[:, 0], stiffness * amplitude**2 / 2 * np.cos(2 * np.pi * time) ** 2, atol=1e-6)
    np.testing.assert_allclose(energies.sum(axis=1), stiffness * amplitude**2 / 2, rtol=1e-5)


def test_a_force_that_swirls_gains_energy_at_the_rate_of_its_work():
    """F = c ẑ × r on a circle that a spring keeps: the power is c times the area swept, twice per time."""
    stiffness, swirl, mass, radius = 5.0, 1e-4, 12.0, 0.1
    omega = np.sqrt(stiffness / mass * ACCELERATION)

    run = NVERun(num_steps=500, timestep=0.5)
    energies = total_energies(_atom(mass, radius, radius * omega, Spring(stiffness, swirl)), run)

    power = 1000 * 1000 * swirl * radius**2 * omega  # meV/ps
    assert summarize_run(energies, 1, run).drift == pytest.approx(power, rel=0.01)


def test_the_start_has_the_temperature_and_no_momentum():
    atoms = ase.Atoms([1, 6, 8] * 2000)
    atomic_masses = atoms.get_masses()

    draw_velocities(atoms, 300.0, seed=0)

    velocities = atoms.get_velocities() * units.fs
    np.testing.assert_allclose(atomic_masses @ velocities, 0, atol=1e-10)
    for mass in atomic_masses[:3]:
        kinetic = mass * np.mean(velocities[atomic_masses == mass] ** 2) / ACCELERATION
        assert kinetic == pytest.approx(BOLTZMANN * 300, rel=0.06), "of 6,000 numbers the standard error is 2 %"


def test_a_run_whose_atoms_fly_off_ends_and_says_when():
    run = NVERun(num_steps=100, timestep=1.0)

    energies = total_energies(_atom(1.0, 0.1, 0.0, Spring(-1e3)), run)

    assert 1 < len(energies) < 100 and np.isfinite(energies).all()
    assert summarize_run(energies, 1, run).num_steps == len(energies) - 1
    assert summarize_run(energies[:1], 1, run).drift is None


@pytest.fixture(scope="module")
def make(architecture, statistics):
    def make(forces: str):
        shape = dataclasses.replace(architecture, forces=forces, l_max=1, correlation=2, radial_mlp=[8])
        return create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)

    return make


def test_gradient_forces_keep_the_energy_and_direct_forces_do_not(make, molecule):
    run = NVERun(num_steps=200, timestep=0.25)

    gradient, direct = (energy_drift(make(forces), molecule, run) for forces in ("gradient", "direct"))

    assert gradient.num_steps == direct.num_steps == 200
    assert abs(direct.drift) > 30 * abs(gradient.drift)
