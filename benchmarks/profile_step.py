"""Where the time of a training step goes: the programs of the step by the part of the model that they belong to.

Each instruction set is a process of its own, in turn. XLA's profiler reports how long each of its programs and each call of the compiled
kernel took; programs that run at the same time count both, so that the sum may exceed the step. Times are medians over the rounds.

    python benchmarks/profile_step.py train.xyz --targets native x86-64-v3
    python benchmarks/profile_step.py train.xyz --channels 128 --hidden-irreps 0e+1o+2e --tensor-products cg spherical_grid
"""

import argparse
import collections
import gzip
import itertools
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from fresh_process import measured

# In the order of the table; the last one is the rest.
_PARTS = ["interaction", "product_basis", "linear", "radial_mlp", "radial_basis", "harmonics", "optimizer", "rest"]


def main() -> None:
    options = _parser().parse_args()
    if options.worker:
        print(json.dumps(_measure(options)))
        return
    settings = list(itertools.product(options.targets, options.tensor_products))
    results: list[list[dict]] = [[] for _ in settings]
    for _ in range(options.rounds):
        for (target, products), runs in zip(settings, results, strict=True):
            runs.append(_run_worker(options, target, products))
    print(json.dumps(results[0][0]["environment"]))
    print(f"{'ms':14}" + "".join(f"{runs[0]['target'] + ' ' + products:>28}" for (_, products), runs in zip(settings, results)))
    for part in [*_PARTS, "sum", "step", "page faults"]:
        print(f"{part:14}" + "".join(f"{np.median([run['parts'][part] for run in runs]):28.2f}" for runs in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a file of configurations with energies and forces")
    parser.add_argument("--targets", nargs="+", default=["native"], help="instruction sets, as MACE_TP_TARGET; x86-64-v3 is AVX2")
    parser.add_argument("--tensor-products", nargs="+", default=["cg"], help="NAME or INTERACTION/PRODUCT_BASIS, each with :option=value")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--hidden-irreps", default="0e+1o")
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--kernel", choices=("auto", "xla"), default="auto", help="as `kernel` of the command")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps that are profiled in a round, and as many before that are timed")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _run_worker(options: argparse.Namespace, target: str, products: str) -> dict:
    common = {name: getattr(options, name) for name in ("channels", "hidden_irreps", "batch_size", "kernel", "steps")}
    return measured(__file__, options.data, common | {"targets": target, "tensor_products": products}, target=target)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of every part, in this process."""
    from mace_tp.cli.main import set_xla_flags

    set_xla_flags()
    import resource

    import jax
    from steps import build_step

    from mace_tp.kernels.compiler import instruction_set
    from mace_tp.model.architecture import Architecture
    from mace_tp.runtime.environment import describe

    architecture = Architecture(num_channels=options.channels, hidden_irreps=options.hidden_irreps)
    step = build_step(options.data, options.tensor_products[0], architecture, options.batch_size, options.kernel)
    for _ in range(5):
        step.run()
    faults, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
    for _ in range(options.steps):
        start = time.perf_counter()
        step.run()
        seconds.append(time.perf_counter() - start)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    profiling = jax.profiler.ProfileOptions()
    profiling.host_tracer_level, profiling.python_tracer_level = 2, 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=profiling):
            for _ in range(options.steps):
                step.run()
        [trace] = Path(folder).glob("**/*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    [program] = step.program.programs()
    parts = _by_part(events, _scopes(program.as_text()), options.steps)
    return {
        "parts": parts | {"sum": sum(parts.values()), "step": 1000 * float(np.median(seconds)), "page faults": faults / options.steps},
        "target": instruction_set(),
        "environment": describe(jax.devices()[0], "float32"),
    }


def _scopes(program: str) -> dict[str, str]:
    """For each instruction of a program in text the name of the operation that it comes from, with the scopes of the model's parts."""
    named = re.findall(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*?op_name="([^"]*)"', program, re.MULTILINE)
    return dict(named) | {name: "" for name in re.findall(r"^\s*(?:ROOT )?%?([\w.\-]+) = (?!.*op_name=)", program, re.MULTILINE)}


def _by_part(events: list[dict], scopes: dict[str, str], steps: int) -> dict[str, float]:
    totals = collections.Counter(dict.fromkeys(_PARTS, 0.0))
    for event in events:
        if event.get("ph") == "X" and event["name"] in scopes:
            scope = scopes[event["name"]]
            part = next((part for part in _PARTS if re.search(rf"\b{part}\b", scope)), "rest")
            totals[part] += event["dur"] / 1000 / steps
    return dict(totals)


if __name__ == "__main__":
    main()
