"""`mace-tp benchmark`: times tensor products alone and at the two sites of the model."""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from mace_tp.benchmark import plots, report
from mace_tp.benchmark.cases import SETTINGS, Sizes, require_setting
from mace_tp.benchmark.derivatives import DERIVATIVES
from mace_tp.benchmark.graphs import first_batch
from mace_tp.benchmark.machine import measure_machine
from mace_tp.benchmark.measure import measure
from mace_tp.cli.outputs import make_folder
from mace_tp.cli.shipped import shipped_data
from mace_tp.config import check_hidden_irreps
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.runtime.devices import find_device, set_dtype
from mace_tp.runtime.environment import describe
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.compiled import KERNELS, Compiled
from mace_tp.tensor_products.registry import chosen_products


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    _check(options)
    dtype = set_dtype(options.dtype)
    device = find_device(options.device)
    products: dict[str, TensorProduct] = chosen_products(options.products)
    if options.kernel == "auto":
        products = {name: Compiled(product) for name, product in products.items()}
    environment = describe(device, options.dtype)
    folder = make_folder("--out", options.out)
    with jax.default_device(device):
        _run(options, products, _sizes(options, dtype), environment, folder)


def _run(
    options: argparse.Namespace, products: dict[str, TensorProduct], sizes: Sizes, environment: dict[str, str | int], folder: Path
) -> None:
    start = time.monotonic()
    machine = measure_machine(sizes.dtype)
    print(_described(environment, *environment))
    passes = (f"{size / 1e6:.3g} MB {machine.bandwidth(size) / 1e9:.0f} GB/s" for size, _ in machine.bandwidths)
    print(f"matrix product {machine.flops_per_second / 1e9:.0f} GFLOP/s; passes over {', '.join(passes)}", end="\n\n")
    print(report.header())
    rows = []
    for group in measure(options.settings, products, options.l_max, options.derivatives, sizes, options.repeats):
        rows += group
        print("\n".join(report.table([report.record(row, machine) for row in group])), flush=True)
    machine = machine.best(measure_machine(sizes.dtype))
    records = [report.record(row, machine) for row in rows]
    report.write(folder, records, machine, environment, vars(options) | {"out": str(folder)})
    for path in plots.draw(folder, records, machine, _described(environment, "jax", "jaxlib", "device", "dtype", "threads")):
        print(path)
    print(f"{folder / 'benchmark.json'}\n{folder / 'benchmark.csv'}\n{time.monotonic() - start:.0f} s in all")


def _described(environment: dict[str, str | int], *names: str) -> str:
    return " · ".join(f"{name} {environment[name]}" for name in names)


def _sizes(options: argparse.Namespace, dtype: jnp.dtype) -> Sizes:
    return Sizes(
        batch=options.batch,
        channels=options.channels,
        parity=options.outputs,
        hidden_irreps=options.hidden_irreps,
        correlation=options.correlation,
        graphs=first_batch(options.data or shipped_data("ethanol/train_300K.xyz.xz"), options.graphs, options.cutoff, dtype),
        cutoff=options.cutoff,
        dtype=dtype,
    )


def _check(options: argparse.Namespace) -> None:
    """Raise an InputError for values that the parser accepts although they cannot be used."""
    for setting in options.settings:
        require_setting(setting)
    for name in ("batch", "channels", "graphs", "correlation", "repeats", "cutoff"):
        if vars(options)[name] <= 0:
            raise InputError(f"--{name} {vars(options)[name]}: must be positive")
    if min(options.l_max) < 0:
        raise InputError(f"--l-max {min(options.l_max)}: must not be negative")
    check_hidden_irreps(options.hidden_irreps, "--hidden-irreps")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mace-tp benchmark",
        description="Time tensor products alone (SISO, SIMO, MIMO) and at the two sites of the model. "
        "They are timed in turn, in one process; compilation is timed separately.",
    )
    defaults = Architecture()
    parser.add_argument("--settings", nargs="+", metavar="SETTING", default=["MIMO"], help=f"{', '.join(SETTINGS)} (default MIMO)")
    parser.add_argument("--products", nargs="+", metavar="PRODUCT", help="such as cg, cg/gaunt, spherical_grid:rank=2 (default: all)")
    parser.add_argument("--l-max", nargs="+", type=int, metavar="L", default=[1, 2, 3, 4], help="(default 1 2 3 4)")
    parser.add_argument("--derivatives", nargs="+", choices=tuple(DERIVATIVES), default=list(DERIVATIVES), help="(default: all)")
    parser.add_argument("--batch", type=int, default=10_000, help="pairs of features for SISO, SIMO and MIMO (default 10000)")
    parser.add_argument(
        "--outputs", choices=("natural", "all"), default="all", help="of SISO, SIMO and MIMO; `all` includes pseudo-tensors (default all)"
    )
    parser.add_argument("--data", metavar="FILE", help="structures for the sites (default: the ethanol data that ship)")
    parser.add_argument("--graphs", type=int, default=5, help="structures per batch (default %(default)s)")
    parser.add_argument("--cutoff", type=float, default=defaults.cutoff, help="Å (default %(default)s)")
    parser.add_argument("--channels", type=int, default=defaults.num_channels, help="at the sites (default %(default)s)")
    parser.add_argument("--hidden-irreps", default=defaults.hidden_irreps, help="at the sites (default %(default)s)")
    parser.add_argument("--correlation", type=int, default=defaults.correlation, help="of the product basis (default %(default)s)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument(
        "--kernel",
        choices=KERNELS,
        default="auto",
        help="at the sites; auto: the compiled kernel where it can be built (default), xla: never",
    )
    parser.add_argument("--repeats", type=int, default=15, help="timed rounds, after two that do not count (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(time.strftime("runs/benchmark/%Y-%m-%d_%H-%M-%S")), help="folder (default %(default)s)"
    )
    return parser
