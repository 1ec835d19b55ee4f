"""Trains with the default recipe for a few minutes, with a test split that influences no choice, and prints the errors.

Draws a test split, trains once on the rest (of which a tenth validates) with `experiment=small_budget`, and prints the time from command
to end, with reading, compilation and the final evaluation, and validation and test errors.

    python benchmarks/small_budget.py train_300K.xyz --isolated-atoms iso_atoms.xyz --seed 0 --out runs/3bpa
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np


def main() -> None:
    options = _parser().parse_intermixed_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train, test = _split(options)
    overrides = [f"data.train={train}", f"data.test={test}", f"seed={options.seed}", f"run_dir={options.out / 'run'}"]
    if options.isolated_atoms:
        overrides.append(f"data.isolated_atoms={options.isolated_atoms}")
    overrides += [f"trainer.max_minutes={options.minutes}", *options.overrides]
    start = time.monotonic()
    subprocess.run([sys.executable, "-P", "-m", "mace_tp", "train", "experiment=small_budget", *overrides], check=True)
    seconds = time.monotonic() - start
    results = json.loads((options.out / "run" / "results.json").read_text(encoding="utf-8"))
    print(f"{seconds:.0f} s from command to end, {results['epochs']} epochs, {1000 * results['step_seconds']:.1f} ms a step")
    for name, errors in {"validation": results["valid"], "test": results["test"][str(test)]}.items():
        energy = errors["energy_rmse_per_config"]
        print(f"{name:10} force RMSE {errors['force_rmse']:.1f} meV/Å, energy RMSE {energy:.1f} meV per configuration")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--isolated-atoms", type=Path)
    parser.add_argument("--num-test", type=int, default=50, help="configurations of the test split")
    parser.add_argument("--num-configurations", type=int, default=500, help="configurations taken from the file")
    parser.add_argument("--minutes", type=float, default=7, help="trainer.max_minutes")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", help="further keys for `mace-tp train`")
    return parser


def _split(options: argparse.Namespace) -> tuple[Path, Path]:
    frames = ase.io.read(options.data, f":{options.num_configurations}")
    order = np.random.default_rng([options.seed, 7]).permutation(len(frames))
    paths = options.out / "train.extxyz", options.out / "test.extxyz"
    for path, indices in zip(paths, (order[options.num_test :], order[: options.num_test]), strict=True):
        ase.io.write(path, [frames[i] for i in sorted(indices)])
    return paths


if __name__ == "__main__":
    main()
