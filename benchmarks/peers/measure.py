"""Shared by the workers of `benchmark_peers.py`: the task and how it is timed.

Runs under the Python of every program that is compared, so that it needs nothing but numpy.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Task:
    """The same work for every program. The rest is fixed: two layers, radial MLP 64-64-64, readout MLP 16, one element embedding."""

    kind: str  # `train`, `evaluate` or `dynamics`
    data: str  # a file that ASE reads, with energies and forces
    interaction: str  # tensor product, the program's own name
    product_basis: str
    started: float  # time.time() when the process was started
    max_frames: int = 50  # the first frames of the file, from which shapes of batches, mean energies and mean number of neighbors come
    batch_size: int = 5  # the first of these frames make the batch
    num_channels: int = 64
    max_degree: int = 1  # of the hidden features: 1 is 0e+1o, 2 is 0e+1o+2e
    warmup: int = 5  # steps before those that are timed
    steps: int = 40
    energy_weight: float = 1.0
    forces_weight: float = 100.0
    weight_decay: float = 5e-7
    learning_rate: float = 0.01
    ema_decay: float = 0.99
    max_grad_norm: float = 10.0
    cutoff: float = 5.0
    l_max: int = 3
    correlation: int = 3
    num_bessel: int = 8
    cutoff_power: int = 5

    @property
    def hidden_irreps(self) -> str:
        """Such as 0e+1o, without multiplicities."""
        return "+".join(f"{degree}{'eo'[degree % 2]}" for degree in range(self.max_degree + 1))


def dynamics_step(atoms) -> Callable[[], float]:
    """Moves atoms with a calculator by half a femtosecond at constant energy, from velocities of 300 K that are the same for all."""
    from ase import units
    from ase.md.verlet import VelocityVerlet

    widths = np.sqrt(units.kB * 300 / atoms.get_masses())[:, None]
    atoms.set_velocities(widths * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)

    def step() -> float:
        dynamics.run(1)
        return float(np.linalg.norm(atoms.get_forces()))

    return step


def read_task() -> Task:
    """The task in the first argument of the command."""
    return Task(**json.loads(sys.argv[1]))


def num_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(
    task: Task,
    step: Callable[[], float],
    parameters: Callable[[], Sequence[np.ndarray]],
    *,
    graph: dict[str, int],
    device: str,
    packages: Sequence[str],
) -> None:
    """Run the step, time it, and print one line of JSON.

    Args:
        task: how many steps.
        step: does one and waits for its end. Returns the loss before the update, or the norm of the forces.
        parameters: the current ones, in any order.
        graph: counts of the batch: `configurations`, `atoms` and `edges` that are real, and `slots`, the edges with their padding.
        device: what it ran on.
        packages: distributions whose versions are reported.
    """
    setup_seconds = time.time() - task.started
    before = _norm_and_copy(parameters())
    seconds, values = [], []
    for index in range(task.warmup + task.steps):
        start = time.perf_counter()
        values.append(step())
        seconds.append(time.perf_counter() - start)
        if index == 0:
            first_step_seconds = time.time() - task.started
    warm = np.array(seconds[task.warmup :])
    difference = np.sqrt(sum(float(np.sum((new - old) ** 2)) for new, old in zip(parameters(), before[1])))
    result = {
        "step_ms": 1000 * float(np.median(warm)),
        "step_ms_min": 1000 * float(warm.min()),
        "step_ms_max": 1000 * float(warm.max()),
        "setup_seconds": setup_seconds,
        # The first steps take longer than later ones by the time of compilation, of any kind.
        "compile_seconds": float(sum(seconds[: task.warmup]) - task.warmup * np.median(warm)),
        "first_step_seconds": first_step_seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
        **graph,
        "num_parameters": int(sum(array.size for array in before[1])),
        "relative_change": difference / before[0],
        "first_value": values[0],
        "last_value": values[-1],
        "dtype": str(before[1][0].dtype),
        "device": device,
        "threads": num_threads(),
        "versions": {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages},
    }
    print(json.dumps(result))


def _norm_and_copy(arrays: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    copies = [np.array(array) for array in arrays]
    return float(np.sqrt(sum(float(np.sum(array**2)) for array in copies))), copies
