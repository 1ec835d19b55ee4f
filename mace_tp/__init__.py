"""Train MACE interatomic potentials in JAX with the tensor product of your choice.

The command `mace-tp` and this module offer the same: `train`, `load_model`, `Evaluator`, `Calculator`, `Config`, `LabelKeys`.
"""

import importlib
from typing import Any

from mace_tp.runtime import forked as _forked  # noqa: F401 - from now on it sees whether jax is in use when a process is forked

_PUBLIC = {
    "Calculator": "simulation.calculator",
    "Config": "config",
    "train": "training.train",
    "load_model": "model.saved_model",
    "load_exported": "model.export.load",
    "Evaluator": "evaluation.evaluate",
    "LabelKeys": "data.configuration",
    "InputError": "errors",
}

__all__ = ["Calculator", "Config", "Evaluator", "InputError", "LabelKeys", "__version__", "load_exported", "load_model", "train"]


def __getattr__(name: str) -> Any:
    """Import on first use: the command replaces its process before jax is loaded, and `--help` needs none of it."""
    if name == "__version__":
        return _version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mace_tp' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mace_tp.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def _version() -> str:
    import importlib.metadata  # takes longer than all that the command imports before it hears of signals

    try:
        return importlib.metadata.version("mace-tp")
    except importlib.metadata.PackageNotFoundError:  # a source tree on the path that nobody installed
        return "unknown"
