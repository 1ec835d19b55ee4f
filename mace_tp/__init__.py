"""Train MACE interatomic potentials in JAX with the tensor product of your choice.

Everything that the command `mace-tp` does can be done from Python:

* `load(path)` reads the `Potential` of a run (`load_model` is its earlier name), which is called on ASE's atoms or on padded batches.
* `Calculator(path)` is a calculator of ASE, also for committees of several potentials.
* `Evaluator(potential, batch_size)` computes errors and predictions on files, whose labels `LabelKeys` names.
* `train(config)` runs the training that a `Config` describes.
* `load_exported(path)` reads a function that `mace-tp export` has written.

Input that cannot be used raises an `InputError`, whose message is one line.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mace_tp.runtime import forked as _forked  # noqa: F401 - registers a hook that notes at every fork whether jax was used before

if TYPE_CHECKING:
    from mace_tp.config import Config as Config
    from mace_tp.data.configuration import LabelKeys as LabelKeys
    from mace_tp.errors import InputError as InputError
    from mace_tp.evaluation.evaluate import Evaluator as Evaluator
    from mace_tp.model.export.load import load_exported as load_exported
    from mace_tp.model.potential import Potential as Potential
    from mace_tp.model.saved_model import load_model as load
    from mace_tp.model.saved_model import load_model as load_model
    from mace_tp.simulation.calculator import Calculator as Calculator
    from mace_tp.training.train import train as train

    __version__: str

# The same for the interpreter: module, and name in it.
_PUBLIC = {
    "Calculator": ("simulation.calculator", "Calculator"),
    "Config": ("config", "Config"),
    "Evaluator": ("evaluation.evaluate", "Evaluator"),
    "InputError": ("errors", "InputError"),
    "LabelKeys": ("data.configuration", "LabelKeys"),
    "Potential": ("model.potential", "Potential"),
    "load": ("model.saved_model", "load_model"),
    "load_exported": ("model.export.load", "load_exported"),
    "load_model": ("model.saved_model", "load_model"),
    "train": ("training.train", "train"),
}

__all__ = ["Calculator", "Config", "Evaluator", "InputError", "LabelKeys", "Potential", "__version__"]
__all__ += ["load", "load_exported", "load_model", "train"]


def __getattr__(name: str) -> Any:
    """Import on first use: the command replaces its process before jax is loaded, and `--help` needs no module of the package."""
    if name == "__version__":
        return _version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mace_tp' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(f"mace_tp.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def _version() -> str:
    import importlib.metadata  # slower than everything the command imports before it handles signals

    try:
        return importlib.metadata.version("mace-tp")
    except importlib.metadata.PackageNotFoundError:  # a source tree that is on the path but not installed
        return "unknown"
