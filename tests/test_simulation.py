"""Runs of molecular dynamics, on ASE's own potential for copper: what each ensemble keeps, and what ends a run."""

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from mace_tp.errors import InputError, TrainingError
from mace_tp.simulation import Sample, Simulation, energy_drift, simulate
from mace_tp.simulation_plots import draw_run


def _copper(size: int = 2) -> ase.Atoms:
    atoms = bulk("Cu", cubic=True) * (size, size, size)
    atoms.calc = EMT()
    return atoms


def test_constant_energy_keeps_the_energy_and_the_momentum():
    atoms = _copper()
    samples = list(simulate(atoms, Simulation(num_steps=205, timestep=1.0, interval=10)))

    assert [sample.step for sample in samples[-3:]] == [190, 200, 205] and samples[-1].time == 205.0
    total = np.array([sample.total_energy for sample in samples])
    assert np.ptp(total) < 1e-3 * np.ptp([sample.kinetic_energy for sample in samples])
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0, atol=1e-10)
    drift, spread = energy_drift(samples, len(atoms))
    assert abs(drift) < 0.1 and spread < 0.05


def test_a_thermostat_reaches_its_temperature():
    simulation = Simulation("nvt", num_steps=1200, timestep=4.0, temperature=400.0, friction=0.02, interval=5, seed=1)
    samples = list(simulate(_copper(), simulation))[80:]

    # 32 atoms: a single temperature has a standard deviation of 14 %.
    assert np.mean([sample.temperature for sample in samples]) == pytest.approx(400.0, rel=0.12)
    assert len({sample.volume for sample in samples}) == 1


@pytest.mark.slow
def test_a_barostat_reaches_its_temperature_and_pressure():
    simulation = Simulation("npt", num_steps=4000, timestep=4.0, temperature=300.0, pressure=5.0, interval=10)
    samples = list(simulate(_copper(), simulation))[100:]

    assert np.mean([sample.temperature for sample in samples]) == pytest.approx(300.0, rel=0.12)
    assert np.mean([sample.pressure for sample in samples]) == pytest.approx(5.0, abs=0.3)
    assert len({sample.volume for sample in samples}) > 1


def test_the_same_seed_gives_the_same_run():
    first, second, other = (list(simulate(_copper(), Simulation("nvt", num_steps=20, timestep=2.0, seed=seed)))[-1] for seed in (3, 3, 4))
    assert first == second != other


def test_drift_and_spread_are_those_of_a_line():
    time = np.arange(11.0)
    energies = 2.0 + 3e-3 * time + 1e-3 * (-1) ** np.arange(11)
    samples = [Sample(i, 1000 * t, e, 0.0, e, 300.0, None, None) for i, (t, e) in enumerate(zip(time, energies))]
    drift, spread = energy_drift(samples, 2)
    assert drift == pytest.approx(1.5, rel=1e-6) and spread == pytest.approx(0.5, rel=0.01)
    assert energy_drift(samples[:2], 2) is None


class Exploding(Calculator):
    """Pushes atoms away from the origin, ever harder."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": -float(np.sum(self.atoms.positions**4)), "forces": 4 * self.atoms.positions**3}


def test_a_structure_that_comes_apart_ends_the_run_in_one_line_and_keeps_what_came_before():
    atoms = ase.Atoms("H2", [[1.0, 0.0, 0.0], [-1.0, 0.1, 0.0]])
    atoms.calc = Exploding()
    samples = []
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="atoms are lost before step .* a shorter --timestep") as error:
        for sample in simulate(atoms, Simulation(num_steps=1000, timestep=1.0, interval=1)):
            samples.append(sample)
    assert len(samples) > 1 and "\n" not in str(error.value)


@pytest.mark.parametrize("ensemble, message", [("npt", "periodic in all three directions"), ("nvp", "must be one of nve, nvt, npt")])
def test_what_cannot_be_run_is_said(ensemble, message):
    atoms = ase.Atoms("Cu2", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
    with pytest.raises(InputError, match=message):
        next(simulate(atoms, Simulation(ensemble)))


def test_the_picture_of_a_run_is_drawn_with_and_without_pressure(tmp_path):
    crystal, molecule = _copper(1), ase.Atoms("Cu2", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
    molecule.calc = EMT()
    for name, atoms, ensemble in (("crystal", crystal, "npt"), ("molecule", molecule, "nve")):
        samples = list(simulate(atoms, Simulation(ensemble, num_steps=20, interval=5)))
        draw_run(samples, len(atoms), name, tmp_path / f"{name}.png")
        assert 5_000 < (tmp_path / f"{name}.png").stat().st_size < 200_000
