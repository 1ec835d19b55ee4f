"""Runs of molecular dynamics, on ASE's own potential for copper: what each ensemble keeps, and what ends a run."""

from collections.abc import Iterator

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

import mace_tp.simulation.md
from mace_tp.errors import InputError, TrainingError
from mace_tp.simulation.energy_drift import fit_line
from mace_tp.simulation.md import NPT, NVE, NVT, Sample, Simulation, draw_velocities, simulate
from mace_tp.simulation.plots import draw_run


def _copper(size: int = 2) -> ase.Atoms:
    atoms = bulk("Cu", cubic=True) * (size, size, size)
    atoms.calc = EMT()
    return atoms


def _run(atoms: ase.Atoms, simulation: Simulation) -> Iterator[Sample]:
    draw_velocities(atoms, simulation.temperature, simulation.seed)
    return simulate(atoms, simulation)


def test_constant_energy_keeps_the_energy_and_the_momentum():
    atoms = _copper()
    samples = list(_run(atoms, Simulation(NVE, num_steps=205, timestep=1.0, interval=10)))

    assert [sample.step for sample in samples[-3:]] == [190, 200, 205] and samples[-1].time == 205.0
    total = np.array([sample.total_energy for sample in samples])
    assert np.ptp(total) < 1e-3 * np.ptp([sample.kinetic_energy for sample in samples])
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0, atol=1e-10)
    line = fit_line([sample.time for sample in samples], total, len(atoms))
    assert abs(line.drift) < 0.1 and line.spread < 0.05


def _mean_start_temperature(atoms: ase.Atoms, ensemble) -> float:
    """Of 1,000 draws at 300 K; of six degrees of freedom its standard error is 2 %."""
    return np.mean([next(_run(atoms, Simulation(ensemble, temperature=300.0, seed=seed))).temperature for seed in range(1000)])


@pytest.mark.parametrize("ensemble", [NVE, NPT], ids=["nve", "npt"])
def test_the_temperature_counts_the_degrees_of_freedom_that_move(ensemble):
    atoms = ase.Atoms("Cu3", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0], [0.0, 2.4, 0.0]], cell=[9.0] * 3, pbc=True)
    atoms.calc = EMT()
    assert _mean_start_temperature(atoms, ensemble) == pytest.approx(300.0, rel=0.07)
    before = next(simulate(atoms, Simulation(ensemble)))
    atoms.set_velocities(atoms.get_velocities() + 0.1)
    after = next(simulate(atoms, Simulation(ensemble)))
    assert after.temperature == pytest.approx(before.temperature, rel=1e-9), "a structure that flies as a whole is no hotter"


@pytest.mark.parametrize("ensemble", [NVE, NVT], ids=["nve", "nvt"])
def test_atoms_that_are_fixed_stay_and_do_not_count(ensemble):
    atoms = _copper(1)
    atoms.set_constraint(FixAtoms([0, 3]))
    places = atoms.positions.copy()
    assert _mean_start_temperature(atoms, ensemble) == pytest.approx(300.0, rel=0.07)

    list(_run(atoms, Simulation(ensemble, num_steps=20, timestep=2.0)))

    moved = np.abs(atoms.positions - places).max(axis=1)
    assert (moved[[0, 3]] == 0).all() and (moved[[1, 2]] > 1e-3).all()


def test_velocities_that_the_atoms_have_are_those_of_the_start():
    whole, first = _copper(), _copper()
    expected = list(_run(whole, Simulation(NVE, num_steps=40, timestep=2.0)))
    list(_run(first, Simulation(NVE, num_steps=20, timestep=2.0)))
    rest = list(simulate(first, Simulation(NVE, num_steps=20, timestep=2.0)))
    assert rest[-1].total_energy == pytest.approx(expected[-1].total_energy, abs=1e-9)
    np.testing.assert_allclose(first.positions, whole.positions, atol=1e-9)


def test_a_barostat_heats_the_degrees_of_freedom_that_move(monkeypatch):
    """ASE holds 3N kT/2 of kinetic energy, which four atoms without a net momentum have at 4/3 of T."""
    given = {}
    monkeypatch.setattr(mace_tp.simulation.md, "IsotropicMTKNPT", lambda atoms, timestep, **rest: given.update(rest))
    next(_run(_copper(1), Simulation(NPT, temperature=300.0)))
    assert given["temperature_K"] * 12 == pytest.approx(300.0 * 9)


def test_a_thermostat_reaches_its_temperature():
    simulation = Simulation(NVT, num_steps=1200, timestep=4.0, temperature=400.0, friction=0.02, interval=5, seed=1)
    samples = list(_run(_copper(), simulation))[80:]

    # 32 atoms: a single temperature has a standard deviation of 14 %.
    assert np.mean([sample.temperature for sample in samples]) == pytest.approx(400.0, rel=0.12)
    assert len({sample.volume for sample in samples}) == 1


@pytest.mark.slow
def test_a_barostat_reaches_its_temperature_and_pressure():
    simulation = Simulation(NPT, num_steps=4000, timestep=4.0, temperature=300.0, pressure=5.0, interval=10)
    samples = list(_run(_copper(), simulation))[100:]

    assert np.mean([sample.temperature for sample in samples]) == pytest.approx(300.0, rel=0.12)
    assert np.mean([sample.pressure for sample in samples]) == pytest.approx(5.0, abs=0.3)
    assert len({sample.volume for sample in samples}) > 1


def test_the_same_seed_gives_the_same_run():
    first, second, other = (list(_run(_copper(), Simulation(NVT, num_steps=20, timestep=2.0, seed=seed)))[-1] for seed in (3, 3, 4))
    assert first == second != other


def test_drift_and_spread_are_those_of_a_line():
    time = 1000 * np.arange(11.0)
    energies = 2.0 + 3e-6 * time + 1e-3 * (-1) ** np.arange(11)
    line = fit_line(time, energies, 2)
    assert line.drift == pytest.approx(1.5, rel=1e-6) and line.spread == pytest.approx(0.5, rel=0.01)
    assert fit_line(time[:2], energies[:2], 2) is None


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
        for sample in _run(atoms, Simulation(NVE, num_steps=1000, timestep=1.0, interval=1)):
            samples.append(sample)
    assert len(samples) > 1 and "\n" not in str(error.value)


def test_what_a_barostat_cannot_run_is_said():
    molecule = ase.Atoms("Cu2", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
    fixed, without_stress = _copper(1), _copper(1)
    fixed.set_constraint(FixAtoms([0]))
    without_stress.calc = Exploding()
    cases = ((molecule, "periodic in all three directions"), (fixed, "cannot hold constraints"), (without_stress, "needs the stress"))
    for atoms, message in cases:
        with pytest.raises(InputError, match=f"ensemble npt: .*{message}"):
            next(simulate(atoms, Simulation(NPT)))


def test_the_picture_of_a_run_is_drawn_with_and_without_pressure(tmp_path):
    crystal, molecule = _copper(1), ase.Atoms("Cu2", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
    molecule.calc = EMT()
    for name, atoms, ensemble in (("crystal", crystal, NPT), ("molecule", molecule, NVE)):
        samples = list(_run(atoms, Simulation(ensemble, num_steps=20, interval=5)))
        draw_run(samples, len(atoms), name, tmp_path / f"{name}.png")
        assert 5_000 < (tmp_path / f"{name}.png").stat().st_size < 200_000
