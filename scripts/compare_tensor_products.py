"""Trains the same model with one tensor product after another and prints what each costs and reaches, as a Markdown table.

Every training is a fresh process, one at a time, with `experiment=tensor_products` and the same seed. Runs that are complete in the
output folder are not repeated. INTERACTION/PRODUCT_BASIS sets the sites apart; NAME:RANK sets the option `rank`.

    python scripts/compare_tensor_products.py train_300K.xyz --isolated-atoms iso_atoms.xyz --out runs/compare
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import e3nn_jax as e3nn
import yaml

from mace_tp.config import TensorProductConfig, build_tensor_products

_PRODUCTS = (
    "cg", "cg/gaunt", "cg/spherical_grid", "hybrid", "gaunt", "spherical_grid", "spherical_grid:2", "vector_grid", "matrix",
    "cuequivariance",
)  # fmt: skip
_HEADER = """| interaction / product basis | parameters | dof | force RMSE | energy RMSE | s/epoch | step | GFLOP/step | memory |
|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    options = _parser().parse_intermixed_args()
    rows = []
    for product in options.products:
        run_dir = options.out / product.replace("/", "_").replace(":", "_")
        if not (run_dir / "results.json").exists():
            _train(options, product, run_dir)
        rows.append(_row(product, run_dir))
        print(rows[-1], flush=True)
    print(_HEADER, *rows, sep="\n")
    print(json.dumps(json.loads((run_dir / "results.json").read_text(encoding="utf-8"))["environment"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--isolated-atoms", type=Path)
    parser.add_argument("--products", nargs="+", default=_PRODUCTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", help="further keys for `mace-tp train`")
    return parser


def _site(name: str) -> dict:
    name, _, rank = name.partition(":")
    return {"name": name, "rank": int(rank)} if rank else {"name": name}


def _sites(product: str) -> dict[str, dict]:
    interaction, _, product_basis = product.partition("/")
    return {"interaction": _site(interaction), "product_basis": _site(product_basis or interaction)}


def _train(options: argparse.Namespace, product: str, run_dir: Path) -> None:
    overrides = [f"data.train={options.data}", f"seed={options.seed}", f"run_dir={run_dir}"]
    if options.isolated_atoms:
        overrides.append(f"data.isolated_atoms={options.isolated_atoms}")
    for site, choice in _sites(product).items():
        overrides += [f"tensor_product.{site}.{option}={value}" for option, value in choice.items()]
    command = [sys.executable, "-P", "-m", "mace_tp", "train", "experiment=tensor_products", *overrides, *options.overrides]
    subprocess.run(command, check=True)


def _row(product: str, run_dir: Path) -> str:
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    last = json.loads((run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    errors = results["valid"]
    cells = [
        " / ".join(f"`{site['name']}`" + (f" rank {site['rank']}" if "rank" in site else "") for site in _sites(product).values()),
        f"{results['num_parameters']:,}",
        " / ".join(map(str, _dof(product, run_dir))),
        f"{errors['force_rmse']:.1f} meV/Å",
        f"{errors['energy_rmse_per_config']:.1f} meV",
        f"{results['epoch_seconds']:.1f}",
        f"{1000 * results['step_seconds']:.0f} ms",
        f"{results['flops_per_step'] / 1e9:.2f}",
        f"{last['peak_memory_mb']:.0f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def _dof(product: str, run_dir: Path) -> tuple[int, int]:
    """Of the second layer's interaction for an edge and channel, and of the first layer's product basis for an element and channel."""
    model = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))["model"]
    products = build_tensor_products(TensorProductConfig(**_sites(product)))
    hidden, harmonics = e3nn.Irreps(model["hidden_irreps"]), e3nn.s2_irreps(model["l_max"])
    basis = products.product_basis.product_basis(harmonics, hidden, model["correlation"])
    return products.interaction.interaction(hidden, harmonics, harmonics).dof(), basis.dof()


if __name__ == "__main__":
    main()
