"""`mace-tp expressivity`: measures which irreps tensor products couple and how many independent maps they reach."""

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import e3nn_jax as e3nn
import jax

from mace_tp.benchmark.coupling_plots import draw_couplings
from mace_tp.benchmark.expressivity import BasisReach, BilinearReach, OrderReach, basis_reach, bilinear_reach
from mace_tp.cli.outputs import make_folder
from mace_tp.errors import InputError
from mace_tp.runtime.devices import set_dtype
from mace_tp.runtime.environment import describe
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.registry import chosen_products

Row = dict[str, Any]


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if min(options.l_max) < 0 or options.correlation < 1:
        raise InputError(f"--l-max {min(options.l_max)} --correlation {options.correlation}: must be at least 0 and 1")
    basis = _irreps("--basis-irreps", options.basis_irreps), _irreps("--hidden-irreps", options.hidden_irreps)
    products = chosen_products(options.products)
    set_dtype("float64")
    if options.out:
        make_folder("--out", options.out)
    rows: list[Row] = []
    with jax.default_device(jax.devices("cpu")[0]):
        for l_max in options.l_max:
            rows += _bilinear(products, l_max, options.outputs, options.out)
        rows += _basis(products, *basis, options.correlation)
    if options.out:
        _write(options.out, rows)


def _bilinear(products: dict[str, TensorProduct], l_max: int, outputs: str, folder: Path | None) -> list[Row]:
    """Measure and print the bilinear map 0..L × 0..L → 0..2L."""
    harmonics, keep = e3nn.s2_irreps(l_max), e3nn.s2_irreps(2 * l_max)
    if outputs == "all":
        keep += e3nn.Irreps([(1, (irrep.ir.l, -irrep.ir.p)) for irrep in keep])
    title = f"0..{l_max} × 0..{l_max} → 0..{2 * l_max}, {outputs} outputs"
    print(f"{title}\n  {'product':24} {'couplings':>12} {'dof':>5} {'residual':>9}")
    rows, reaches = [], {}
    for name, product in products.items():
        reach = _tried(name, lambda product=product: bilinear_reach(product, harmonics, harmonics, keep))
        if isinstance(reach, BilinearReach):
            reaches[name] = reach
            print(f"  {name:24} {f'{reach.num_coupled} of {len(reach.paths)}':>12} {reach.dof:5d} {reach.residual:9.0e}", flush=True)
        rows.append({"map": "bilinear", "l_max": l_max, "outputs": outputs, "product": name} | _bilinear_numbers(reach))
    if folder and reaches:
        path = folder / f"couplings_l{l_max}.png"
        draw_couplings(path, reaches, title)
        print(f"  {path}")
    return rows


def _bilinear_numbers(reach: BilinearReach | str) -> Row:
    if isinstance(reach, str):
        return {"note": reach}
    triples = {f"{path.node} {path.edge} {path.out}": float(value) for path, value in zip(reach.paths, reach.strengths, strict=True)}
    counts = {"num_allowed": len(reach.paths), "num_coupled": reach.num_coupled, "dof": reach.dof}
    return counts | {"residual": reach.residual, "strengths": triples}


def _basis(products: dict[str, TensorProduct], irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> list[Row]:
    """Measure and print the product basis, order by order."""
    print(f"product basis, powers 1..{correlation} of {irreps_in}")
    print(f"  {'product':24} {'order':>5} {'output':>6} {'couplings':>9} {'factors':>8} {'dof':>5}   of all orders: dof, residual")
    rows = []
    for name, product in products.items():
        reach = _tried(name, lambda product=product: basis_reach(product, irreps_in, irreps_out, correlation))
        shape = {"map": "product_basis", "product": name, "irreps_in": str(irreps_in)}
        if not isinstance(reach, BasisReach):
            rows.append(shape | {"note": reach})
            continue
        for i, entry in enumerate(reach.orders):
            whole = f"   {reach.dof}, {reach.residual:.0e}" if i == 0 else ""
            reached = f"{entry.num_reached} of {entry.num_multisets}"
            counts = f"{entry.order:5d} {entry.out!s:>6} {entry.num_couplings:9d} {reached:>8} {entry.dof:5d}"
            print(f"  {name if i == 0 else '':24} {counts}{whole}", flush=True)
            rows.append(shape | _order_numbers(entry) | {"dof_of_all_orders": reach.dof, "residual": reach.residual})
    return rows


def _order_numbers(entry: OrderReach) -> Row:
    return {
        "order": entry.order, "output": str(entry.out), "num_couplings": entry.num_couplings, "num_factors": entry.num_multisets,
        "num_reached": entry.num_reached, "dof": entry.dof,
    }  # fmt: skip


def _tried(name: str, measure: Callable[[], Any]) -> Any:
    """Return the measurement. If the product cannot do this, print a line and return the reason."""
    try:
        return measure()
    except InputError as error:
        print(f"  {name:24} cannot: {error}")
        return str(error)


def _irreps(flag: str, text: str) -> e3nn.Irreps:
    try:
        irreps = e3nn.Irreps(text)
    except ValueError as error:
        raise InputError(f"{flag} {text}: not irreps; valid is, for example, 0e+1o+2e") from error
    if not irreps or any(irrep.mul != 1 for irrep in irreps):
        raise InputError(f"{flag} {text}: each irrep once; valid is, for example, 0e+1o+2e")
    return irreps


def _write(folder: Path, rows: list[Row]) -> None:
    content = {"environment": describe(jax.devices("cpu")[0], "float64"), "rows": rows}
    (folder / "expressivity.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    flat = [{key: value for key, value in row.items() if key != "strengths"} for row in rows]
    with open(folder / "expressivity.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in flat for key in row)))
        writer.writeheader()
        writer.writerows(flat)
    print(f"{folder / 'expressivity.json'}\n{folder / 'expressivity.csv'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mace-tp expressivity",
        description="Measure which irreps tensor products couple, and the dimension of the family of maps that they reach (dof), by "
        "evaluating them in float64. `residual` is the part of a map that is not a sum of couplings, zero for an equivariant product.",
    )
    parser.add_argument("--products", nargs="+", metavar="PRODUCT", help="such as cg, cg/gaunt, spherical_grid:rank=2 (default: all)")
    parser.add_argument("--l-max", nargs="+", type=int, metavar="L", default=[1, 2, 3], help="of the bilinear map (default 1 2 3)")
    parser.add_argument("--outputs", choices=("natural", "all"), default="all", help="`all` includes pseudo-tensors (default all)")
    parser.add_argument("--basis-irreps", default="0e+1o+2e+3o", help="factors of the product basis (default %(default)s)")
    parser.add_argument("--hidden-irreps", default="0e+1o+2e", help="outputs of the product basis (default %(default)s)")
    parser.add_argument("--correlation", type=int, default=3, help="highest order of the product basis (default 3)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write expressivity.json and .csv, and a picture of the couplings")
    return parser
