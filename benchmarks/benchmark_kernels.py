"""The compiled kernel against XLA's form of the same tensor products, and products against each other, for several instruction sets.

Each line is a process that holds both forms and calls them in turn (A B A B ...), so that a machine whose speed drifts favors none; ratios
are taken within a round and their median over the rounds is shown. `step` is a training step of the whole model, `basis` the product basis
of its first layer alone: value, forces and the gradient of a training step. Compilation is not timed.

    python benchmarks/benchmark_kernels.py train.xyz --targets native x86-64-v3 --channels 16 64 128
    python benchmarks/benchmark_kernels.py train.xyz --what basis --tensor-products spherical_grid matrix
    python benchmarks/benchmark_kernels.py train.xyz --kernels auto --channels 32 --tensor-products cg cg/spherical_grid
"""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fresh_process import measured

_PRODUCTS = ["cg", "cg/spherical_grid", "spherical_grid", "gaunt", "matrix", "vector_grid", "hybrid"]


def main() -> None:
    options = _parser().parse_args()
    if options.worker:
        print(json.dumps(_measure(options)))
        return
    lines = list(itertools.product(options.what, options.targets, options.channels, options.tensor_products))
    for number, (what, target, channels, products) in enumerate(lines):
        result = _run_worker(options, {"what": what, "targets": target, "channels": channels, "tensor_products": products})
        if number == 0:
            print(json.dumps(result["environment"]))
            print(
                f"{'':6}{'target':12}{'channels':>9}  {'tensor product':24}" + "".join(f"{kernel:>9} ms" for kernel in options.kernels),
                end="",
            )
            print("   xla/auto    min    max" if {"auto", "xla"} <= set(options.kernels) else "")
        medians = "".join(f"{1000 * np.median(result['seconds'][kernel]):9.2f}   " for kernel in options.kernels)
        print(f"{what:6}{result['target']:12}{channels:9d}  {products:24}{medians}{_ratios(result['seconds'])}", flush=True)
        if options.json:
            with options.json.open("a") as file:
                print(json.dumps(result | {"what": what, "channels": channels, "tensor_product": products}), file=file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a file of configurations with energies and forces")
    parser.add_argument("--what", nargs="+", choices=("step", "basis"), default=["step"])
    parser.add_argument("--targets", nargs="+", default=["native"], help="instruction sets, as MACE_TP_TARGET; x86-64-v3 is AVX2")
    parser.add_argument("--channels", type=int, nargs="+", default=[64])
    parser.add_argument(
        "--tensor-products", nargs="+", default=_PRODUCTS, help="NAME or INTERACTION/PRODUCT_BASIS, each with :option=value"
    )
    parser.add_argument("--kernels", nargs="+", choices=("auto", "xla"), default=["auto", "xla"], help="as `kernel` of the command")
    parser.add_argument("--l-max", type=int, default=3)
    parser.add_argument("--hidden-irreps", default="0e+1o")
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15, help="of each form in a round, after two that are not timed")
    parser.add_argument("--json", type=Path, help="file to which a line for each line of the table is added")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _run_worker(options: argparse.Namespace, setting: dict[str, Any]) -> dict:
    common = {name: getattr(options, name) for name in ("kernels", "l_max", "hidden_irreps", "batch_size", "rounds", "steps")}
    return measured(__file__, options.data, setting | common, target=setting["targets"])


def _ratios(seconds: dict[str, list[float]]) -> str:
    if not {"auto", "xla"} <= set(seconds):
        return ""
    ratios = np.array(seconds["xla"]) / np.array(seconds["auto"])
    return f"{np.median(ratios):8.2f} {ratios.min():6.2f} {ratios.max():6.2f}"


def _measure(options: argparse.Namespace) -> dict:
    """Median seconds of every form in every round, in this process."""
    from mace_tp.cli.main import set_xla_flags

    set_xla_flags()
    import jax

    from mace_tp.benchmark.timing import time_in_turn
    from mace_tp.kernels.compiler import instruction_set
    from mace_tp.runtime.environment import describe

    make = {"step": _steps, "basis": _bases}[options.what[0]]
    calls = make(options)
    rounds = [time_in_turn(calls, options.steps) for _ in range(options.rounds)]
    return {
        "seconds": {kernel: [float(np.median(seconds[kernel])) for seconds in rounds] for kernel in calls},
        "target": instruction_set(),
        "environment": describe(jax.devices()[0], "float32"),
    }


def _steps(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    from steps import build_step

    from mace_tp.model.architecture import Architecture

    architecture = Architecture(num_channels=options.channels[0], hidden_irreps=options.hidden_irreps, l_max=options.l_max)
    products = options.tensor_products[0]
    return {kernel: build_step(options.data, products, architecture, options.batch_size, kernel).run for kernel in options.kernels}


def _bases(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    from steps import build_step

    from mace_tp.benchmark.cases import Sizes, make_case
    from mace_tp.benchmark.derivatives import training
    from mace_tp.benchmark.timing import compile_program
    from mace_tp.model.architecture import Architecture
    from mace_tp.tensor_products.compiled import Compiled
    from mace_tp.tensor_products.registry import build_tensor_products, parse_products

    architecture = Architecture(num_channels=4, l_max=options.l_max)
    graphs = build_step(options.data, "cg", architecture, options.batch_size, "xla").batch
    sizes = Sizes(
        batch=0, channels=options.channels[0], parity="natural", hidden_irreps=options.hidden_irreps, correlation=3, graphs=graphs,
        cutoff=5.0, dtype=np.dtype(np.float32),
    )  # fmt: skip
    product = build_tensor_products(parse_products(options.tensor_products[0])).product_basis
    forms = {"auto": Compiled(product), "xla": product}
    cases = {kernel: make_case("product_basis", forms[kernel], options.l_max, sizes) for kernel in options.kernels}
    return {kernel: compile_program(*training(case.operation)).call for kernel, case in cases.items()}


if __name__ == "__main__":
    main()
