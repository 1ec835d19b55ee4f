"""Times one training step of the whole model, for several settings side by side.

Each setting runs in a process of its own, in turn (A B C A B C ...), so that a machine whose speed drifts favors none.

    python benchmarks/benchmark_step.py train.xyz --channels 32 64 --edge-block 4 8 16
    python benchmarks/benchmark_step.py train.xyz --tensor-products cg/cg cg/gaunt cg/spherical_grid
    python benchmarks/benchmark_step.py train.xyz --tensor-products cg spherical_grid --l-max 2 3 4 5 6
    python benchmarks/benchmark_step.py train.xyz --targets native x86-64-v3 --kernels auto xla
"""

import argparse
import itertools
import json
import os
import resource
import time
from typing import Any

import numpy as np
from fresh_process import measured

_HEADER = f"{'interaction/product basis':30} " + (
    "l_max channels  block  huge light kernel target     step ms     min     max  ratio  faults compile s memory MB  edges  slots"
)
# In place of the options by which the command has XLA choose its older emitters.
_NEW_EMITTERS = "--xla_backend_extra_options=none"


def main() -> None:
    options = _parser().parse_args()
    if options.worker:
        print(json.dumps(_measure(options)))
        return
    names = "l_max", "tensor_products", "channels", "edge_block", "huge_pages", "light_compiler", "kernels", "targets"
    settings = [dict(zip(names, values)) for values in itertools.product(*(getattr(options, name) for name in names))]
    results: list[list[dict]] = [[] for _ in settings]
    for _ in range(options.rounds):
        for setting, runs in zip(settings, results, strict=True):
            runs.append(_run_worker(options, setting))
    print(json.dumps(results[0][0]["environment"]))
    first = np.median([run["step_ms"] for run in results[0]])
    print(_HEADER)
    for setting, runs in zip(settings, results, strict=True):
        steps = [run["step_ms"] for run in runs]
        median = np.median(steps)
        compile_seconds, memory, faults = (np.median([run[name] for run in runs]) for name in ("compile_seconds", "memory_mb", "faults"))
        shape = f"{setting['tensor_products']:30} {setting['l_max']:5d} {setting['channels']:8d} {setting['edge_block']:6d}"
        flags = f"{setting['huge_pages']:5d} {setting['light_compiler']:5d} {setting['kernels']:6} {setting['targets']:10}"
        times = f"{median:8.1f} {min(steps):7.1f} {max(steps):7.1f} {median / first:6.2f}"
        counts = f"{faults:7.0f} {compile_seconds:9.1f} {memory:9.0f} {runs[0]['edges']:6d} {runs[0]['slots']:6d}"
        print(f"{shape} {flags} {times} {counts}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a file of configurations with energies and forces")
    parser.add_argument("--tensor-products", nargs="+", default=["cg"], help="NAME or INTERACTION/PRODUCT_BASIS, each with :option=value")
    parser.add_argument("--l-max", type=int, nargs="+", default=[3])
    parser.add_argument("--channels", type=int, nargs="+", default=[32])
    parser.add_argument("--edge-block", type=int, nargs="+", default=[8])
    parser.add_argument("--huge-pages", type=int, nargs="+", choices=(0, 1), default=[1], help="glibc.malloc.hugetlb")
    parser.add_argument("--light-compiler", type=int, nargs="+", choices=(0, 1), default=[1], help="XLA's flags as the command sets them")
    parser.add_argument("--kernels", nargs="+", choices=("auto", "xla"), default=["auto"], help="as `kernel` of the command")
    parser.add_argument("--targets", nargs="+", default=["native"], help="instruction sets, as MACE_TP_TARGET; x86-64-v3 is AVX2")
    parser.add_argument("--hidden-irreps", default="0e+1o")
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="timed steps per process, after five that are not")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _run_worker(options: argparse.Namespace, setting: dict[str, Any]) -> dict:
    common = {name: getattr(options, name) for name in ("hidden_irreps", "batch_size", "steps")}
    return measured(__file__, options.data, setting | common, target=setting["targets"], huge_pages=setting["huge_pages"])


def _measure(options: argparse.Namespace) -> dict:
    """Step time of one setting, in this process."""
    import mace_tp.edge_blocks

    # The other modules take the constant when they are imported.
    mace_tp.edge_blocks.EDGE_BLOCK = options.edge_block[0]
    import jax

    from mace_tp.cli.main import set_xla_flags
    from mace_tp.model.architecture import Architecture
    from mace_tp.runtime.environment import describe, peak_memory_mb

    if not options.light_compiler[0]:
        os.environ["XLA_FLAGS"] = f"{_NEW_EMITTERS} {os.environ.get('XLA_FLAGS', '')}"
    set_xla_flags()
    from steps import build_step

    architecture = Architecture(num_channels=options.channels[0], hidden_irreps=options.hidden_irreps, l_max=options.l_max[0])
    step = build_step(options.data, options.tensor_products[0], architecture, options.batch_size, options.kernels[0])
    seconds, faults = [], []
    for _ in range(options.steps + 5):
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        start = time.perf_counter()
        step.run()
        seconds.append(time.perf_counter() - start)
    return {
        "step_ms": 1000 * float(np.median(seconds[5:])),
        "faults": float(np.median(np.diff(faults[5:]))),
        "compile_seconds": step.program.compile_seconds,
        "memory_mb": peak_memory_mb(jax.devices()[0]),
        "edges": int(step.batch.edge_mask.sum()),
        "slots": step.batch.num_edges,
        "environment": describe(jax.devices()[0], "float32"),
    }


if __name__ == "__main__":
    main()
