"""A run at constant energy: closed forms of a spring, the start, and models whose atoms move far."""

import dataclasses

import numpy as np
import pytest
from ase.data import atomic_masses as MASSES

from mace_tp.model.saved_model import create_model
from mace_tp.simulation.dynamics import NVE, energy_drift, maxwell_boltzmann, summarize_run, total_energies
from mace_tp.tensor_products.registry import TensorProductConfig

# eV/Å per amu in Å/fs²; eV/K
ACCELERATION, BOLTZMANN = 9.648533212e-3, 8.617333262e-5


def _spring(stiffness: float):
    return lambda positions: (stiffness * np.sum(positions**2) / 2, -stiffness * positions)


def test_a_spring_swings_with_its_frequency_and_keeps_its_energy():
    stiffness, mass, amplitude = 5.0, np.array([12.0]), 0.1
    period = 2 * np.pi / np.sqrt(stiffness / mass[0] * ACCELERATION)
    nve = NVE(num_steps=1000, timestep=period / 1000)

    energies = total_energies(_spring(stiffness), np.array([[amplitude, 0, 0]]), np.zeros((1, 3)), mass, nve)

    # cos² over a period; Verlet's relative error is (ω dt)² / 8, or 5e-6.
    time = np.arange(1001) / 1000
    np.testing.assert_allclose(energies[:, 0], stiffness * amplitude**2 / 2 * np.cos(2 * np.pi * time) ** 2, atol=1e-6)
    np.testing.assert_allclose(energies.sum(axis=1), stiffness * amplitude**2 / 2, rtol=1e-5)


def test_a_force_that_swirls_gains_energy_at_the_rate_of_its_work():
    """F = c ẑ × r on a circle that a spring keeps: the power is c times the area swept, twice per time."""
    stiffness, swirl, mass, radius = 5.0, 1e-4, np.array([12.0]), 0.1
    omega = np.sqrt(stiffness / mass[0] * ACCELERATION)

    def evaluate(positions: np.ndarray) -> tuple[float, np.ndarray]:
        energy, forces = _spring(stiffness)(positions)
        return energy, forces + swirl * np.stack([-positions[:, 1], positions[:, 0], 0 * positions[:, 0]], axis=1)

    nve = NVE(num_steps=500, timestep=0.5)
    energies = total_energies(evaluate, np.array([[radius, 0, 0]]), np.array([[0, radius * omega, 0]]), mass, nve)

    power = 1000 * 1000 * swirl * radius**2 * omega  # meV/ps
    assert summarize_run(energies, 1, nve).drift == pytest.approx(power, rel=0.01)


def test_the_start_has_the_temperature_and_no_momentum():
    atomic_masses = np.tile(MASSES[[1, 6, 8]], 2000)

    velocities = maxwell_boltzmann(atomic_masses, 300.0, np.random.default_rng(0))

    np.testing.assert_allclose(atomic_masses @ velocities, 0, atol=1e-10)
    for mass in MASSES[[1, 6, 8]]:
        kinetic = mass * np.mean(velocities[atomic_masses == mass] ** 2) / ACCELERATION
        assert kinetic == pytest.approx(BOLTZMANN * 300, rel=0.06), "of 6,000 numbers the standard error is 2 %"


def test_a_run_whose_atoms_fly_off_ends_and_says_when():
    nve = NVE(num_steps=100, timestep=1.0)

    energies = total_energies(_spring(-1e3), np.array([[0.1, 0, 0]]), np.zeros((1, 3)), np.array([1.0]), nve)

    assert 1 < len(energies) < 100 and np.isfinite(energies).all()
    assert summarize_run(energies, 1, nve).num_steps == len(energies) - 1
    assert summarize_run(energies[:1], 1, nve).drift is None


@pytest.fixture(scope="module")
def make(architecture, statistics):
    def make(forces: str):
        shape = dataclasses.replace(architecture, forces=forces, l_max=1, correlation=2, radial_mlp=[8])
        return create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)

    return make


def test_gradient_forces_keep_the_energy_and_direct_forces_do_not(make, molecule):
    nve = NVE(num_steps=200, timestep=0.25)

    gradient, direct = (energy_drift(make(forces), molecule, nve) for forces in ("gradient", "direct"))

    assert gradient.num_steps == direct.num_steps == 200
    assert abs(direct.drift) > 30 * abs(gradient.drift)
