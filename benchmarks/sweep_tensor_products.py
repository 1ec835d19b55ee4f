"""Trains the same model with one tensor product after another, on every data set and with every seed, and compares the runs.

Every training is a fresh process, one at a time. Finished runs in the output folder are not repeated, interrupted runs continue. The seeds
are the outermost loop, so that each full round is a comparison by itself. At the end `mace-tp compare` writes a comparison for each data
set, `OUT/NAME/comparison`.

    python benchmarks/sweep_tensor_products.py --out runs/sweep \
        --data 3bpa "data.train=train_300K.xyz data.isolated_atoms=iso_atoms.xyz" \
        --data aspirin "data.train=aspirin_train.extxyz data.test=aspirin_test.extxyz data.isolated_atoms=isolated_atoms.xyz"
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from mace_tp.tensor_products.registry import parse_products

_PRODUCTS = (
    "cg", "cg/gaunt", "cg/spherical_grid", "hybrid", "gaunt", "spherical_grid", "spherical_grid:rank=2", "vector_grid", "matrix",
)  # fmt: skip
_MACE_TP = [sys.executable, "-P", "-m", "mace_tp"]


def main() -> None:
    options = _parser().parse_intermixed_args()
    for product in options.products:
        parse_products(product)  # InputError for one that there is not
    for seed in options.seeds:
        for name, data in options.data:
            for product in options.products:
                run_dir = options.out / name / product.replace("/", "_").replace(":", "_") / f"seed_{seed}"
                common = [f"experiment={options.experiment}", f"seed={seed}", f"run_dir={run_dir}"]
                _train(run_dir, [*common, *shlex.split(data), f"tensor_product={product}", *options.overrides])
    for name, _ in options.data:
        runs = options.out / name
        subprocess.run([*_MACE_TP, "compare", str(runs), "--baseline", options.baseline, "--out", str(runs / "comparison")], check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs=2, action="append", required=True, metavar=("NAME", "KEYS"), help="a data set; may be repeated")
    parser.add_argument("--products", nargs="+", default=_PRODUCTS, help="NAME or INTERACTION/PRODUCT_BASIS, each with :option=value")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--experiment", default="tensor_products", help="a file in configs/experiment (default %(default)s)")
    parser.add_argument("--baseline", default="cg", help="of the comparison (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", help="further keys for `mace-tp train`")
    return parser


def _train(run_dir: Path, overrides: list[str]) -> None:
    if (run_dir / "results.json").exists():
        return
    if (run_dir / "config.yaml").exists():
        overrides = [*overrides, "trainer.resume=auto"]
    print(f"+ {shlex.join(['mace-tp', 'train', *overrides])}", flush=True)
    subprocess.run([*_MACE_TP, "train", *overrides, "logger.progress=false"], check=True)


if __name__ == "__main__":
    main()
