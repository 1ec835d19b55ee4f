"""Describes where a number was measured: versions, device, threads, memory."""

import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax

from mace_tp.runtime.devices import Device


def describe(device: Device, dtype: str) -> dict[str, str | int]:
    """Return versions and hardware, for the log and for every file with timings."""
    return {
        "mace_tp": importlib.metadata.version("mace-tp"),
        "commit": _commit(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "device": f"{device.platform}: {device.device_kind}",
        "dtype": dtype,
        "threads": num_threads(),
        "huge_pages": "on" if "hugetlb=1" in os.environ.get("GLIBC_TUNABLES", "") else "off",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def num_threads() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb(device: Device) -> float:
    """Return the peak memory so far in MB: of the device if it reports one, else of this process."""
    statistics = device.memory_stats()
    if statistics and "peak_bytes_in_use" in statistics:
        return statistics["peak_bytes_in_use"] / 1e6
    kilobyte = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte / 1e6


def _commit() -> str:
    """Return the commit of the source tree, with `-dirty` if files have changed since; `unknown` for an installed package."""
    tree = Path(__file__).resolve().parents[2]
    if not (tree / "pyproject.toml").exists() or shutil.which("git") is None:
        return "unknown"
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
