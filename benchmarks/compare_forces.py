"""Direct forces beside those of the gradient: errors, seconds per epoch and conservativity, for one tensor product after another.

Trains on the ethanol that ships, each run in a fresh process, one at a time; what is finished in the output folder is not repeated. Then
`mace-tp evaluate --conservativity` in float64 on the test set at 300 K. Prints a Markdown table.

    python benchmarks/compare_forces.py --out runs/forces
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from mace_tp.cli.shipped import shipped_data

_MACE_TP = [sys.executable, "-P", "-m", "mace_tp"]
_HEADER = """| tensor product | forces | force RMSE | energy RMSE | s/epoch | step | MFLOP/step | |J-Jᵀ|/|J| | share of A | drift |
|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    options = _parser().parse_intermixed_args()
    test = shipped_data("ethanol/test_300K.xyz.xz")
    rows = []
    for product in options.products:
        for forces in ("gradient", "direct"):
            run_dir = options.out / product.replace("/", "_").replace(":", "_") / forces
            _train(run_dir, [f"tensor_product={product}", f"model.forces={forces}", *options.overrides])
            rows.append(_row(product, forces, run_dir, _evaluated(run_dir, test)))
            print(rows[-1], flush=True)
    print(_HEADER.replace("|J-Jᵀ|/|J|", r"\|J-Jᵀ\|/\|J\|"), *rows, sep="\n")
    print(json.dumps(json.loads((run_dir / "results.json").read_text(encoding="utf-8"))["environment"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", nargs="+", default=["cg", "spherical_grid", "matrix"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", default=["trainer.max_epochs=20"], help="further keys for `mace-tp train`")
    return parser


def _train(run_dir: Path, overrides: list[str]) -> None:
    if not (run_dir / "results.json").exists():
        resume = ["trainer.resume=auto"] if (run_dir / "config.yaml").exists() else []
        common = ["data=ethanol", f"run_dir={run_dir}", "logger.progress=false"]
        subprocess.run([*_MACE_TP, "train", *common, *overrides, *resume], check=True)


def _evaluated(run_dir: Path, test: str) -> dict:
    """Return what `mace-tp evaluate` writes about the run."""
    path = run_dir / "conservativity.json"
    if not path.exists():
        flags = ["--conservativity", "--dtype", "float64", "--json", str(path)]
        subprocess.run([*_MACE_TP, "evaluate", str(run_dir), test, *flags], check=True)
    return json.loads(path.read_text(encoding="utf-8"))


def _row(product: str, forces: str, run_dir: Path, evaluated: dict) -> str:
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    (errors,), (measured,) = evaluated["files"].values(), evaluated["conservativity"].values()
    mean, drift = measured["mean"], measured["nve"]["drift"]
    cells = [
        f"`{product}`",
        f"`{forces}`",
        f"{errors['force_rmse']:.1f} meV/Å",
        f"{errors['energy_rmse_per_config']:.1f} meV",
        f"{results['epoch_seconds']:.2f}",
        f"{1000 * results['step_seconds']:.1f} ms",
        f"{results['flops_per_step'] / 1e6:.0f}",
        f"{mean['asymmetry']:.1e}",
        f"{100 * mean['rest_share']:.2g} %",
        "lost an atom" if drift is None else f"{drift:.3g} meV/atom/ps",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
