"""Makes data/cu_au: periodic copper-gold alloys with stress, and the isolated atoms, labeled with ASE's EMT potential.

Run it from the root of the repository, a few seconds:

    python scripts/generate_cu_au.py --out data/cu_au --seed 0
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

NUM_CONFIGS = {"train": 240, "test": 60}
LATTICE_CONSTANT = {"Cu": 3.61, "Au": 4.06}  # Å, at the minimum of EMT; an alloy lies between, by composition (Vegard)
PURE_FRACTION = 0.1  # of the configurations, for either element
LARGEST_STRAIN = 0.05  # of every component, shear included
RATTLE_RANGE = (0.02, 0.25)  # Å, standard deviation of a Cartesian displacement
SHORTEST_DISTANCE = 2.0  # Å; closer atoms are drawn again: no dynamics visits them, and their forces would rule the loss
# (primitive cell?, repetitions): 4 to 32 atoms, cubic, tetragonal, orthorhombic, flat, long and oblique
SUPERCELLS = (
    (False, (1, 1, 1)), (False, (2, 1, 1)), (False, (3, 1, 1)), (False, (2, 2, 1)), (False, (3, 2, 1)), (False, (2, 2, 2)),
    (True, (2, 2, 1)), (True, (4, 1, 1)), (True, (2, 2, 2)), (True, (3, 3, 1)), (True, (3, 2, 2)), (True, (3, 3, 2)), (True, (3, 3, 3)),
)  # fmt: skip
POSITION_DECIMALS, FORCE_DECIMALS, ENERGY_DECIMALS, STRESS_DECIMALS = 6, 6, 8, 8


def random_symbols(num_atoms: int, rng: np.random.Generator) -> list[str]:
    """Elements of one configuration: pure copper, pure gold, or each atom at random with a random gold content."""
    kind = rng.random()
    if kind < PURE_FRACTION:
        return ["Cu"] * num_atoms
    if kind < 2 * PURE_FRACTION:
        return ["Au"] * num_atoms
    gold = rng.uniform(0, 1)
    return ["Au" if rng.random() < gold else "Cu" for _ in range(num_atoms)]


def random_alloy(rng: np.random.Generator) -> Atoms:
    """A supercell of the fcc lattice with random elements, strained and rattled."""
    primitive, repetitions = SUPERCELLS[rng.integers(len(SUPERCELLS))]
    lattice = bulk("Cu", "fcc", a=1.0, cubic=not primitive)
    atoms = make_supercell(lattice, np.diag(repetitions))
    atoms.symbols = random_symbols(len(atoms), rng)
    scale = np.mean([LATTICE_CONSTANT[symbol] for symbol in atoms.symbols])
    strain = rng.uniform(-LARGEST_STRAIN, LARGEST_STRAIN, (3, 3))
    symmetric = np.triu(strain) + np.triu(strain, 1).T
    atoms.set_cell(scale * atoms.cell @ (np.eye(3) + symmetric), scale_atoms=True)
    atoms.positions += rng.normal(0, rng.uniform(*RATTLE_RANGE), atoms.positions.shape)
    return atoms


def random_alloys(num_configs: int, rng: np.random.Generator) -> list[Atoms]:
    """So many labeled configurations, none with two atoms (or an atom and its image) too close."""
    frames: list[Atoms] = []
    while len(frames) < num_configs:
        atoms = random_alloy(rng)
        if len(neighbor_list("i", atoms, SHORTEST_DISTANCE)) == 0:
            frames.append(labeled(atoms))
    return frames


def labeled(atoms: Atoms, **info: object) -> Atoms:
    """The atoms with rounded positions and cell, and labels computed from those and then rounded.

    Energy in eV, forces in eV/Å; stress in eV/Å³ with ASE's sign, where the atoms are periodic.
    """
    cell = atoms.cell.array.round(POSITION_DECIMALS)
    frame = Atoms(atoms.symbols, positions=atoms.positions.round(POSITION_DECIMALS), cell=cell, pbc=atoms.pbc, info=info)
    frame.calc = EMT()
    labels = {
        "energy": round(frame.get_potential_energy(), ENERGY_DECIMALS),
        "forces": frame.get_forces().round(FORCE_DECIMALS) + 0.0,  # no negative zeros
    }
    if frame.pbc.all():
        labels["stress"] = frame.get_stress().round(STRESS_DECIMALS) + 0.0
    frame.calc = SinglePointCalculator(frame, **labels)
    return frame


def report(name: str, frames: list[Atoms]) -> None:
    """Print what a reader should know of a file."""
    sizes = [len(frame) for frame in frames]
    gold = np.array([np.mean(frame.numbers == 79) for frame in frames])
    energy = np.array([frame.get_potential_energy() / len(frame) for frame in frames])
    forces = np.concatenate([frame.get_forces() for frame in frames])
    stress = np.array([frame.get_stress() for frame in frames])
    # The distance between opposite faces of a cell is the inverse of the length of a reciprocal vector.
    widths = np.array([1 / frame.cell.reciprocal().lengths().max() for frame in frames])
    print(f"{name}: {len(frames)} configurations, {min(sizes)} to {max(sizes)} atoms (mean {np.mean(sizes):.1f})")
    print(f"  pure Cu {np.sum(gold == 0)}, pure Au {np.sum(gold == 1)}, mean gold content {gold.mean():.2f}")
    print(f"  energy per atom {energy.min():.3f} to {energy.max():.3f} eV")
    print(f"  smallest width of a cell {widths.min():.2f} Å; narrower than 5 Å: {np.sum(widths < 5)}")
    print(f"  forces, eV/Å: rms {np.sqrt(np.mean(forces**2)):.3f}, largest component {np.abs(forces).max():.2f}")
    print(f"  stress, eV/Å³: rms {np.sqrt(np.mean(stress**2)):.4f}, largest component {np.abs(stress).max():.3f}")


def main() -> None:
    """Read the command line and make every file."""
    parser = argparse.ArgumentParser(description="Make the copper-gold data, labeled with ASE's EMT potential.")
    parser.add_argument("--out", type=Path, default=Path("data/cu_au"), help="directory for the files")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random number")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    isolated = [labeled(Atoms(symbol, [[0, 0, 0]]), config_type="IsolatedAtom") for symbol in LATTICE_CONSTANT]
    print("isolated atoms, eV:", {str(frame.symbols): float(frame.get_potential_energy()) for frame in isolated})
    ase.io.write(arguments.out / "isolated_atoms.xyz.xz", isolated)
    seeds = np.random.SeedSequence(arguments.seed).spawn(len(NUM_CONFIGS))
    for (name, num_configs), seed in zip(NUM_CONFIGS.items(), seeds):
        frames = random_alloys(num_configs, np.random.default_rng(seed))
        report(name, frames)
        ase.io.write(arguments.out / f"{name}.xyz.xz", frames)


if __name__ == "__main__":
    main()
