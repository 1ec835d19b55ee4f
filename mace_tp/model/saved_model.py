"""Potentials on disk: weights as safetensors and everything else as JSON. Reading them executes no code of the files."""

import contextlib
import dataclasses
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from jax.typing import DTypeLike

from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.model.mace import MACE
from mace_tp.model.parameters import Params, named_parameters
from mace_tp.model.potential import Potential
from mace_tp.run_directory import write_atomically
from mace_tp.runtime.devices import set_dtype
from mace_tp.runtime.forked import refuse_fork
from mace_tp.tensor_products import compiled
from mace_tp.tensor_products.base import UnreachableIrrep
from mace_tp.tensor_products.compiled import KERNELS, Compiled
from mace_tp.tensor_products.registry import TensorProductConfig, TensorProducts, build_tensor_products, tensor_product_names

_FORMAT = 1
_WEIGHTS, _DESCRIPTION = "weights.safetensors", "model.json"


def create_model(
    architecture: Architecture,
    tensor_product: TensorProductConfig,
    statistics: DatasetStatistics,
    dtype: jnp.dtype,
    seed: int,
    kernel: str = "auto",
) -> Potential:
    """Make a potential with random parameters.

    Args:
        architecture: shape of the model.
        tensor_product: of both sites.
        statistics: of the training data.
        dtype: of the parameters.
        seed: of the parameters.
        kernel: `auto` evaluates sparse polynomials by compiled code on a CPU, `xla` never does.

    Raises:
        InputError: the tensor product does not reach the hidden irreps; the message names the products that do.
    """
    try:
        graphdef, params = _initialized(architecture, _products(tensor_product, kernel), statistics, dtype, seed)
    except UnreachableIrrep as error:
        able = _able_products(architecture, statistics, dtype)
        raise InputError(f"{error}; tensor products that can: {', '.join(able) or 'none'}") from error
    return Potential(graphdef, params, architecture, tensor_product, statistics)


def _able_products(architecture: Architecture, statistics: DatasetStatistics, dtype: jnp.dtype) -> list[str]:
    """Names of the tensor products with which a model of this shape can be built."""
    able = []
    for name in tensor_product_names():
        with contextlib.suppress(InputError):
            _initialized(architecture, build_tensor_products(TensorProductConfig(name, name)), statistics, dtype, seed=0)
            able.append(name)
    return able


def with_kernel(model: Potential, kernel: str) -> Potential:
    """The same model evaluated with another kernel. Arguments as for `create_model`."""
    products = _products(model.tensor_product, kernel)
    graphdef, _ = _initialized(model.architecture, products, model.statistics, model.dtype, seed=0)
    return dataclasses.replace(model, graphdef=graphdef)


def _products(tensor_product: TensorProductConfig, kernel: str) -> TensorProducts:
    if kernel not in KERNELS:
        raise InputError(f"kernel={kernel}: must be one of {', '.join(KERNELS)}")
    products = build_tensor_products(tensor_product)
    if kernel == "xla":
        return products
    return TensorProducts(Compiled(products.interaction), Compiled(products.product_basis), compiled.mix)


def _initialized(
    architecture: Architecture, products: TensorProducts, statistics: DatasetStatistics, dtype: jnp.dtype, seed: int
) -> tuple[nnx.GraphDef, Params]:
    """Structure and random parameters."""
    refuse_fork()
    return nnx.split(MACE(architecture, products, statistics, dtype=dtype, rng=np.random.default_rng(seed)), nnx.Param)


def save_model(directory: Path, model: Potential, notes: dict[str, Any]) -> None:
    """Write a potential. Each file of an earlier one is replaced in one step, so that no file is ever half written.

    Args:
        directory: made if it does not exist.
        model: to be saved.
        notes: JSON for readers of the model, such as errors and data.
    """
    directory.mkdir(parents=True, exist_ok=True)
    packages = ("mace-tp", "jax", "jaxlib", "flax", "e3nn-jax")
    description = {
        "format": _FORMAT,
        "architecture": model.architecture.to_dict(),
        "tensor_product": dataclasses.asdict(model.tensor_product),
        "statistics": model.statistics.to_dict(),
        "units": {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³ (ASE's sign)"},
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "notes": notes,
    }
    weights = {name: np.asarray(value) for name, value in named_parameters(model.params).items()}
    write_atomically(directory / _WEIGHTS, safetensors.numpy.save(weights))
    write_atomically(directory / _DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False))


def load_model(path: str | Path, dtype: DTypeLike | None = None, kernel: str = "auto") -> Potential:
    """Read the potential of a run. `mace_tp.load` is this function.

    Args:
        path: a run directory, or the folder `model` in it.
        dtype: of the parameters, float32 or float64; None keeps the saved one. float64 is switched on in jax for the whole process.
        kernel: as for `create_model`.

    Raises:
        InputError: there is no model, or its files do not belong together.
    """
    directory = _model_directory(Path(path))
    architecture, tensor_product, statistics = _read_description(directory / _DESCRIPTION)
    weights = _read_weights(directory)
    saved = next(iter(weights.values())).dtype
    dtype = set_dtype(jnp.dtype(saved if dtype is None else dtype).name)
    graphdef, untrained = _initialized(architecture, _products(tensor_product, kernel), statistics, dtype, seed=0)
    expected = {name: leaf.shape for name, leaf in named_parameters(untrained).items()}
    found = {name: weight.shape for name, weight in weights.items()}
    if expected != found:
        name = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise InputError(
            f"{directory / _WEIGHTS}: {name} has shape {found.get(name)}, the model in {_DESCRIPTION} needs {expected.get(name)}"
        )
    leaves = [jnp.asarray(weights[name], dtype) for name in named_parameters(untrained)]
    params = jax.tree.unflatten(jax.tree.structure(untrained), leaves)
    return Potential(graphdef, params, architecture, tensor_product, statistics)


def read_statistics(path: str | Path) -> DatasetStatistics:
    """Read the statistics of a saved model. Arguments and errors as for `load_model`."""
    return _read_description(_model_directory(Path(path)) / _DESCRIPTION)[2]


def read_dtype(path: str | Path) -> np.dtype:
    """Read the dtype of a saved model. Arguments and errors as for `load_model`."""
    return next(iter(_read_weights(_model_directory(Path(path))).values())).dtype


def _read_weights(directory: Path) -> dict[str, np.ndarray]:
    try:
        weights = safetensors.numpy.load_file(directory / _WEIGHTS)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{directory / _WEIGHTS}: cannot be read ({error})") from error
    if not weights:
        raise InputError(f"{directory / _WEIGHTS}: holds no weights")
    return weights


def _read_description(path: Path) -> tuple[Architecture, TensorProductConfig, DatasetStatistics]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    written = description.get("format") if isinstance(description, dict) else None
    if written != _FORMAT:
        raise InputError(f"{path}: format {written}, this version reads {_FORMAT}")
    try:
        architecture = Architecture(**description["architecture"])
        tensor_product = TensorProductConfig(**description["tensor_product"])
        statistics = DatasetStatistics.from_dict(description["statistics"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not the description of a model ({type(error).__name__}: {error})") from error
    return architecture, tensor_product, statistics


def _model_directory(path: Path) -> Path:
    if path.is_file():
        raise InputError(f"{path}: not a model of mace-tp, which is a folder; a file that can run code when it is read is never opened")
    for directory in (path, path / "model"):
        if (directory / _DESCRIPTION).exists():
            return directory
    raise InputError(f"{path}: no model here; give a run directory, or its folder `model` with {_DESCRIPTION} and {_WEIGHTS}")
