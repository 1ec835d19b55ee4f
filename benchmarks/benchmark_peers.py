"""mace-tp against its peers, ACEsuit's mace-torch and InstaDeep's mlip: the same work on the same data, on the processor.

Each measurement runs in a process of its own, in turn (A B C A B C ...), so that a machine whose speed drifts favors none. Ratios are
taken within a round. The peers' environments are made below `--environments` if they are missing. 3BPA is from `davkovacs/BOTNet-datasets`.

    python benchmarks/benchmark_peers.py train_300K.xyz --environments peers --cases step evaluation --json peers.jsonl

Cases (float32, l_max 3, correlation 3, two layers, cutoff 5 Å; the workers in `benchmarks/peers/` say what a step is):

    step        one update, batch 5, 64 channels, 0e+1o: energies, forces, loss, gradient, AMSGrad, average of the parameters
    step-large  the same with 128 channels, 0e+1o+2e
    evaluation  energies and forces, batch 32, 64 channels, 0e+1o
    md-molecule one step of ASE's velocity Verlet with each program's calculator, the first configuration, 64 channels, 0e+1o
    md-crystal  the same for 512 atoms of silicon
    epoch       seconds for an epoch of the programs' own commands: reading batches, updates and validation (mace-tp, mace-torch)
    scaling     one update of mace-tp, 16 channels, for 64, 128, ... atoms of silicon; the ratio is that to the size before
    start       seconds from the start of a process to the end of its first update, found in the compilation cache where there is one
    check       ten updates of a loss of forces alone, without decay of weights: it must fall, or the forces have no gradient
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ase.build
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from peers.environments import python_of, versions
from peers.epochs import mace_torch_epochs, mace_tp_epochs
from peers.measure import num_threads

_WORKERS = {name: Path(__file__).parent / "peers" / f"{name.replace('-', '_')}_worker.py" for name in ("mace-tp", "mace-torch", "mlip")}
_PROGRAMS = [
    "mace-tp:cg/cg", "mace-tp:cg/spherical_grid", "mace-tp:spherical_grid/spherical_grid", "mace-torch:cg/cg",
    "mlip:cg/e3j", "mlip:cg/e3nn_symmetric", "mlip:gaunt/gaunt_tp",
]  # fmt: skip
_SETTINGS = {
    "step": {"kind": "train"},
    "step-large": {"kind": "train", "num_channels": 128, "max_degree": 2},
    "evaluation": {"kind": "evaluate", "batch_size": 32},
    "md-molecule": {"kind": "dynamics", "batch_size": 1},
    "md-crystal": {"kind": "dynamics", "batch_size": 1, "max_frames": 1},
    "check": {"kind": "train", "num_channels": 16, "energy_weight": 0.0, "weight_decay": 0.0, "warmup": 0, "steps": 10},
}
# Cases in which nothing is learnt.
_NO_TRAINING = ("evaluation", "md-molecule", "md-crystal")
_CASES = [*_SETTINGS, "epoch", "scaling", "start"]
_COLUMNS = {"setup_seconds": "setup s", "compile_seconds": "compile s", "peak_memory_mb": "memory MB", "atoms": "atoms", "edges": "edges",
            "slots": "slots", "num_parameters": "weights"}  # fmt: skip
# Whose versions are reported with the case `epoch`; the workers have their own lists.
_PACKAGES = {"mace-tp": ("mace-tp", "jax", "jaxlib", "flax"), "mace-torch": ("mace-torch", "torch", "e3nn")}
# The same for all that are compared.
_GRAPH = ("configurations", "atoms", "edges", "dtype", "threads")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a table: something that is measured once in every round."""

    label: str
    measure: Callable[[], dict]


@dataclasses.dataclass(frozen=True)
class Case:
    """One table."""

    name: str
    quantity: str  # key of the results that is compared
    entries: list[Entry]
    against_previous: bool = False  # ratios to the line above instead of to the first line


def main() -> None:
    options = _parser().parse_args()
    options.data = str(Path(options.data).resolve())
    pythons = {name: python_of(options.environments, name) for name in _programs_of(options) if name != "mace-tp"}
    pythons["mace-tp"] = sys.executable
    output = options.json.open("a") if options.json else contextlib.nullcontext(sys.stdout)
    with tempfile.TemporaryDirectory() as folder, output as lines:
        for name in options.cases:
            for huge in options.huge_pages:
                case = _build_case(name, options, Bench(options, pythons, huge, Path(folder)))
                results = _measure(case, options.rounds)
                _print_table(case, results, huge)
                for entry in case.entries:
                    print(json.dumps(_line(case, entry, results, huge)), file=lines, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a file of configurations with energies and forces")
    parser.add_argument("--environments", type=Path, required=True, help="folder of the peers' virtual environments")
    parser.add_argument("--cases", nargs="+", choices=_CASES, default=_CASES)
    parser.add_argument("--programs", nargs="+", default=_PROGRAMS, help="PROGRAM:INTERACTION/PRODUCT_BASIS; the first is the unit")
    parser.add_argument("--huge-pages", type=int, nargs="+", choices=(0, 1), default=[1], help="glibc.malloc.hugetlb, for all programs")
    parser.add_argument("--target", default="native", help="instruction set of mace-tp and its XLA (MACE_TP_TARGET); x86-64-v3 is AVX2")
    parser.add_argument("--torch-capability", help="ATEN_CPU_CAPABILITY of torch, such as avx2; torch's own choice by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="timed steps per process, after some that are not")
    parser.add_argument("--epochs", type=int, default=4, help="of the case `epoch`; the first is not counted")
    parser.add_argument("--max-atoms", type=int, default=8192, help="largest size of the case `scaling`")
    parser.add_argument("--json", type=Path, help="file to which a line for each case and program is added; the terminal by default")
    return parser


def _programs_of(options: argparse.Namespace) -> list[str]:
    """The programs that the cases need, without their tensor products."""
    return sorted({program.partition(":")[0] for program in options.programs}) if set(options.cases) != {"scaling"} else []


class Bench:
    """Starts processes: one huge-page setting for whatever runs."""

    def __init__(self, options: argparse.Namespace, pythons: dict[str, str], huge: int, folder: Path) -> None:
        self._options, self._pythons, self._folder = options, pythons, folder
        self._environment = os.environ | {
            "GLIBC_TUNABLES": f"glibc.malloc.hugetlb={huge}",
            "OMP_NUM_THREADS": str(num_threads()),
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
            "MACE_TP_TARGET": options.target,
            # mace-torch sets it too; without it torch does not read the table of couplings that e3nn ships.
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
        }
        if options.torch_capability:
            self._environment["ATEN_CPU_CAPABILITY"] = options.torch_capability
        self._environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def step(self, program: str, settings: dict, cache: str | None = None) -> dict:
        """Results of a worker: step times, set-up, memory, versions."""
        name, interaction, product_basis = _parts(program)
        task = {"data": self._options.data, "steps": self._options.steps, "interaction": interaction, "product_basis": product_basis}
        with tempfile.TemporaryDirectory(dir=self._folder) as none:
            # mace-tp keeps its compiled kernels beside XLA's programs, so that both are cached or neither.
            caches = {"XDG_CACHE_HOME": cache or none} | ({"JAX_COMPILATION_CACHE_DIR": cache} if cache else {})
            argument = json.dumps(task | settings | {"started": time.time()})
            command = [self._pythons[name], str(_WORKERS[name]), argument]
            done = subprocess.run(command, env=self._environment | caches, check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])

    def cached_step(self, program: str, settings: dict) -> dict:
        """As `step`, but only the first round compiles."""
        return self.step(program, settings, str(self._folder / "xla"))

    def start(self, program: str) -> dict:
        """The second of two processes that share a new compilation cache, and how long the first one took to its first step."""
        settings = {"kind": "train", "warmup": 1, "steps": 1}
        with tempfile.TemporaryDirectory(dir=self._folder) as cache:
            cold = self.step(program, settings, cache)["first_step_seconds"]
            return self.step(program, settings, cache) | {"cold_first_step_seconds": cold}

    def epochs(self, program: str) -> dict:
        """Seconds per epoch of a program's own command."""
        name, interaction, product_basis = _parts(program)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            common = (self._options.data, self._options.epochs, Path(folder) / "epochs")
            if name == "mace-tp":
                cache = {"JAX_COMPILATION_CACHE_DIR": folder, "XDG_CACHE_HOME": folder}
                result = mace_tp_epochs(*common, self._environment | cache, (interaction, product_basis))
            else:
                result = mace_torch_epochs(*common, self._environment, self._pythons[name])
        return result | {
            "dtype": "float32",
            "device": "cpu",
            "threads": num_threads(),
            "versions": versions(self._pythons[name], _PACKAGES[name]),
        }

    def silicon(self, repeats: tuple[int, int, int]) -> str:
        """A file with one rattled diamond crystal and random labels: about 28 neighbors within 5 Å."""
        path = self._folder / f"silicon_{'_'.join(map(str, repeats))}.xyz"
        if not path.exists():
            atoms = ase.build.bulk("Si", cubic=True).repeat(repeats)
            atoms.rattle(0.05, seed=0)
            forces = np.random.default_rng(0).normal(size=(len(atoms), 3))
            atoms.calc = SinglePointCalculator(atoms, energy=-5.0 * len(atoms), forces=forces)
            ase.io.write(path, atoms, format="extxyz")
        return str(path)


def _build_case(name: str, options: argparse.Namespace, bench: Bench) -> Case:
    programs = options.programs
    if name == "scaling":
        return Case(name, "step_ms", _sizes(options, bench), against_previous=True)
    if name == "epoch":
        able = [program for program in programs if not program.startswith("mlip")]
        return Case(name, "epoch_seconds", [Entry(program, lambda p=program: bench.epochs(p)) for program in able])
    if name == "start":
        return Case(name, "first_step_seconds", [Entry(program, lambda p=program: bench.start(p)) for program in programs])
    settings = _SETTINGS[name]
    if settings["kind"] == "dynamics":
        programs = [program for program in programs if not program.startswith("mlip")]
    if name == "md-crystal":
        settings = settings | {"data": bench.silicon((4, 4, 4))}
    return Case(name, "step_ms", [Entry(program, lambda p=program: bench.step(p, settings)) for program in programs])


def _sizes(options: argparse.Namespace, bench: Bench) -> list[Entry]:
    """Each crystal twice as large as the one before."""
    entries, repeats = [], [2, 2, 2]
    while (atoms := 8 * math.prod(repeats)) <= options.max_atoms:
        # Steps of a few milliseconds scatter the most; more of them cost nothing.
        steps = options.steps * max(1, 1024 // atoms)
        settings = {"kind": "train", "num_channels": 16, "batch_size": 1, "max_frames": 1, "warmup": 2, "steps": steps}
        settings["data"] = bench.silicon(tuple(repeats))
        entries.append(Entry(f"{atoms} atoms", lambda s=settings: bench.cached_step("mace-tp:cg/cg", s)))
        repeats[len(entries) % 3 - 1] *= 2
    return entries


def _parts(program: str) -> tuple[str, str, str]:
    name, _, products = program.partition(":")
    interaction, _, product_basis = products.partition("/")
    if name not in _WORKERS or not interaction:
        raise ValueError(f"{program}: must be PROGRAM:NAME or PROGRAM:INTERACTION/PRODUCT_BASIS with one of {', '.join(_WORKERS)}")
    return name, interaction, product_basis or interaction


def _measure(case: Case, rounds: int) -> dict[str, list[dict]]:
    """Return the results of every entry, a list over the rounds. An entry that failed once is not run again; its list holds the error."""
    results: dict[str, list[dict]] = {entry.label: [] for entry in case.entries}
    for index in range(rounds):
        for entry in case.entries:
            runs = results[entry.label]
            if index and "error" in runs[-1]:
                continue
            try:
                runs.append(entry.measure())
            except subprocess.CalledProcessError as error:
                lines = [line for line in error.stderr.splitlines() if "Error" in line] or [f"exit status {error.returncode}"]
                runs.append({"error": lines[-1]})
            print(f"{case.name}, round {index + 1}: {entry.label}: {runs[-1].get(case.quantity, 'failed')}", file=sys.stderr)
    return results


def _ratios(case: Case, label: str, results: dict[str, list[dict]]) -> list[float]:
    """The quantity in units of the first entry's, or of the entry's before, round by round."""
    labels = [entry.label for entry in case.entries]
    unit = labels[max(0, labels.index(label) - 1)] if case.against_previous else labels[0]
    pairs = zip(results[label], results[unit])
    return [run[case.quantity] / other[case.quantity] for run, other in pairs if "error" not in run and "error" not in other]


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)} if values else {}


def _line(case: Case, entry: Entry, results: dict[str, list[dict]], huge: int) -> dict:
    runs = results[entry.label]
    values = [run[case.quantity] for run in runs if case.quantity in run]
    return {
        "case": case.name, "program": entry.label, "huge_pages": huge, "quantity": case.quantity, "value": _spread(values),
        "ratio": _spread(_ratios(case, entry.label, results)), "rounds": runs,
    }  # fmt: skip


def _print_table(case: Case, results: dict[str, list[dict]], huge: int) -> None:
    print(f"\n{case.name}, huge pages {huge}: {case.quantity}, ratio to the {'line above' if case.against_previous else 'first line'}")
    print(f"{'':40}{'median':>9}{'min':>9}{'max':>9}   ratio    min    max" + "".join(f"{title:>11}" for title in _COLUMNS.values()))
    for label, runs in results.items():
        if "error" in runs[-1]:
            print(f"{label:40}failed: {runs[-1]['error']}")
            continue
        value = _spread([run[case.quantity] for run in runs])
        ratio = _spread(_ratios(case, label, results))
        others = [np.median([run[key] for run in runs]) if key in runs[0] else np.nan for key in _COLUMNS]
        times = "".join(f"{number:9.1f}" for number in value.values()) + " " + "".join(f"{number:7.2f}" for number in ratio.values())
        print(
            f"{label:40}{times}"
            + "".join(f"{'-' if np.isnan(number) else round(number, 1 if number < 100 else None):>11}" for number in others)
        )
    for warning in _warnings(case, results):
        print(f"  not as it should be: {warning}")


def _warnings(case: Case, results: dict[str, list[dict]]) -> list[str]:
    """Return the reasons why a comparison is worthless: different graphs, constant parameters, a loss that does not fall."""
    warnings = []
    done = {label: runs[-1] for label, runs in results.items() if "relative_change" in runs[-1]}
    for key in _GRAPH if not case.against_previous else ():
        if len({run[key] for run in done.values()}) > 1:
            warnings.append(f"{key} differ: " + ", ".join(f"{label} {run[key]}" for label, run in done.items()))
    for label, run in done.items():
        moved = run["relative_change"] > 0
        if moved == (case.name in _NO_TRAINING):
            warnings.append(f"{label}: parameters {'changed' if moved else 'did not change'}")
        if case.name in _NO_TRAINING and not run["first_value"] > 0:
            warnings.append(f"{label}: no forces")
        if case.name not in (*_NO_TRAINING, "start") and not run["last_value"] < run["first_value"]:
            warnings.append(f"{label}: the loss went from {run['first_value']:.4g} to {run['last_value']:.4g}")
    return warnings


if __name__ == "__main__":
    main()
