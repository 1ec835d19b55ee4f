"""Makes data/ethanol: ethanol at 300 K and at 600 K, and its isolated atoms, labeled with GFN2-xTB.

Needs tblite. Run it from the root of the repository, about ten minutes on one core:

    OMP_NUM_THREADS=1 python scripts/generate_ethanol.py --out data/ethanol --seed 0

The same seed gives the same files on the same machine with the same library versions. Elsewhere the last bits of the forces
differ, and because molecular dynamics is chaotic the samples then differ, though not their distribution.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.optimize import BFGS
from tblite.ase import TBLite

TIME_STEP = 0.5 * units.fs
FRICTION = 0.02 / units.fs  # thermalizes within 50 fs, so that equilibration and sampling can be short
EQUILIBRATION_STEPS = 2000  # 1 ps
SAMPLE_STEPS = 100  # 50 fs between samples: several periods of every stretch
TORSION = (0, 1, 2, 3)  # C-C-O-H in ASE's ethanol
MULTIPLICITY = {"H": 2, "C": 3, "O": 3}  # ground states of the free atoms
LONGEST_BOND = {"CH": 1.6, "HO": 1.6, "CC": 2.1, "CO": 2.1}  # Å; a longer one is broken, at either temperature
POSITION_DECIMALS, FORCE_DECIMALS, ENERGY_DECIMALS = 6, 6, 8


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """One file: samples at one temperature from trajectories of its own."""

    name: str
    temperature: float  # K
    num_trajectories: int
    samples_per_trajectory: int


ENSEMBLES = (
    Ensemble("train_300K", 300.0, 20, 50),
    Ensemble("test_300K", 300.0, 10, 50),
    Ensemble("test_600K", 600.0, 10, 50),
)


def gfn2(accuracy: float, multiplicity: int = 1) -> TBLite:
    """The labeling method, with the electronic temperature of 300 K that is its default."""
    return TBLite(method="GFN2-xTB", accuracy=accuracy, multiplicity=multiplicity, electronic_temperature=300.0, verbosity=0)


def labeled(atoms: Atoms, multiplicity: int = 1, **info: object) -> Atoms:
    """The atoms at rounded positions, with energy (eV) and forces (eV/Å) computed at those positions and then rounded."""
    frame = Atoms(atoms.symbols, positions=atoms.positions.round(POSITION_DECIMALS), info=info)
    # A fresh calculator: no label depends on the frame before it. With accuracy 1e-4 rounding is the largest error of the forces.
    frame.calc = gfn2(1e-4, multiplicity)
    energy = round(frame.get_potential_energy(), ENERGY_DECIMALS)
    forces = frame.get_forces().round(FORCE_DECIMALS) + 0.0  # no negative zeros
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame


def relaxed(atoms: Atoms) -> Atoms:
    """The minimum of the energy next to the atoms."""
    minimum = atoms.copy()
    minimum.calc = gfn2(1.0)
    BFGS(minimum, logfile=None).run(fmax=1e-4)
    return minimum


def with_torsion(atoms: Atoms, angle: float) -> Atoms:
    """The molecule with another torsion H-O-C-C (degrees): 180 is trans, 60 is gauche, the lower one in GFN2-xTB."""
    turned = atoms.copy()
    turned.set_dihedral(*TORSION, angle, indices=[TORSION[-1]])
    return turned


def trajectory(start: Atoms, temperature: float, num_samples: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Yield samples of equilibrated Langevin dynamics, each with its momenta, around its center of mass."""
    # From any torsion: the conformers interconvert too rarely for their balance to be left to short dynamics.
    atoms = with_torsion(start, rng.uniform(0, 360))
    atoms.calc = gfn2(1.0)
    spread = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(rng.standard_normal(atoms.positions.shape) * spread[:, None])
    dynamics = Langevin(atoms, TIME_STEP, temperature_K=temperature, friction=FRICTION, fixcm=False, rng=rng)
    dynamics.run(EQUILIBRATION_STEPS)
    for _ in range(num_samples):
        dynamics.run(SAMPLE_STEPS)
        sample = atoms.copy()
        sample.positions -= sample.get_center_of_mass()
        yield sample


def longest_bonds(samples: list[Atoms], start: Atoms) -> dict[str, float]:
    """The longest length (Å) that each kind of bond of the start takes in the samples.

    Raises:
        RuntimeError: a bond is broken.
    """
    first, second = np.nonzero(np.triu(start.get_all_distances() < 1.6, k=1))
    kinds = ["".join(sorted((start[i].symbol, start[j].symbol))) for i, j in zip(first, second)]
    longest: dict[str, float] = {}
    for sample in samples:
        for kind, length in zip(kinds, sample.get_all_distances()[first, second]):
            longest[kind] = max(longest.get(kind, 0.0), float(length))
    broken = {kind: length for kind, length in longest.items() if length > LONGEST_BOND[kind]}
    if broken:
        raise RuntimeError(f"a bond is broken, length in Å: {broken}")
    return longest


def configurational_temperature(frames: list[Atoms], rng: np.random.Generator, step: float = 1e-3, num_probes: int = 4) -> float:
    """Temperature (K) from positions alone: mean squared gradient over mean Laplacian of the potential energy.

    The Laplacian is the mean of s·Hs over random signs s, with Hs from central differences of the forces, step in Å.
    Source: Butler et al. 1998, J. Chem. Phys. 109, 6519; the trace by random signs is Hutchinson's.
    """
    squared_gradient, laplacian = 0.0, 0.0
    for frame in frames:
        displaced = frame.copy()
        displaced.calc = gfn2(1e-4)
        squared_gradient += np.sum(frame.get_forces() ** 2)
        for signs in rng.choice([-1.0, 1.0], (num_probes, *frame.positions.shape)):
            for direction in (-1, 1):
                displaced.positions = frame.positions + direction * step * signs
                laplacian -= direction * np.sum(signs * displaced.get_forces()) / (2 * step * num_probes)
    return squared_gradient / laplacian / units.kB


def report(ensemble: Ensemble, samples: list[Atoms], frames: list[Atoms], start: Atoms) -> None:
    """Print what shows that the samples are at their temperature and whole."""
    kinetic = np.mean([sample.get_temperature() for sample in samples])
    kinetic_error = ensemble.temperature * np.sqrt(2 / (3 * len(start) * len(samples)))
    configurational = configurational_temperature(frames, np.random.default_rng(0))
    lowest = relaxed(with_torsion(start, 60))
    above_minimum = np.mean([frame.get_potential_energy() for frame in frames]) - lowest.get_potential_energy()
    harmonic = 2 * above_minimum / (3 * len(start) - 6) / units.kB
    torsion = np.array([sample.get_dihedral(*TORSION) for sample in samples])
    forces = np.concatenate([frame.get_forces() for frame in frames])
    bonds = {kind: round(length, 2) for kind, length in longest_bonds(samples, start).items()}
    print(f"{ensemble.name}: {len(frames)} configurations, target {ensemble.temperature:.0f} K")
    print(f"  temperature, K: kinetic {kinetic:.1f} ± {kinetic_error:.1f}, configurational {configurational:.1f}")
    print(f"  mean energy above the minimum {above_minimum:.4f} eV: a harmonic molecule would have it at {harmonic:.0f} K")
    print(f"  trans fraction {np.mean(np.abs(torsion - 180) < 60):.2f}; longest bonds, Å: {bonds}")
    print(f"  forces, eV/Å: rms {np.sqrt(np.mean(forces**2)):.3f}, largest component {np.abs(forces).max():.2f}", flush=True)


def make_ensemble(ensemble: Ensemble, start: Atoms, seed: np.random.SeedSequence, out: Path) -> None:
    """Sample, label, shuffle (so that any part of the file mixes all trajectories), report and write one file."""
    order_seed, *trajectory_seeds = seed.spawn(1 + ensemble.num_trajectories)
    samples, frames = [], []
    for number, trajectory_seed in enumerate(trajectory_seeds):
        rng = np.random.default_rng(trajectory_seed)
        for sample in trajectory(start, ensemble.temperature, ensemble.samples_per_trajectory, rng):
            samples.append(sample)
            frames.append(labeled(sample, trajectory=number))
    order = np.random.default_rng(order_seed).permutation(len(frames))
    frames = [frames[index] for index in order]
    report(ensemble, samples, frames, start)
    ase.io.write(out / f"{ensemble.name}.xyz.xz", frames)


def make_isolated_atoms(out: Path) -> None:
    """Write the free atoms, marked as MACE's tools expect."""
    frames = [labeled(Atoms(symbol, [[0, 0, 0]]), number, config_type="IsolatedAtom") for symbol, number in MULTIPLICITY.items()]
    print("isolated atoms, eV:", {str(frame.symbols): float(frame.get_potential_energy()) for frame in frames}, flush=True)
    ase.io.write(out / "isolated_atoms.xyz.xz", frames)


def main() -> None:
    """Read the command line and make every file."""
    parser = argparse.ArgumentParser(description="Make the ethanol data, labeled with GFN2-xTB.")
    parser.add_argument("--out", type=Path, default=Path("data/ethanol"), help="directory for the files")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random number")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    make_isolated_atoms(arguments.out)
    start = relaxed(molecule("CH3CH2OH"))
    seeds = np.random.SeedSequence(arguments.seed).spawn(len(ENSEMBLES))
    for ensemble, seed in zip(ENSEMBLES, seeds):
        make_ensemble(ensemble, start, seed, arguments.out)


if __name__ == "__main__":
    main()
