"""Conversion of ACEsuit's mace-torch models to potentials and back, as the same function of the atoms."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.errors import InputError
from mace_tp.model.mace_torch import files
from mace_tp.model.mace_torch.files import MaceTorchModel
from mace_tp.model.mace_torch.layout import to_ours
from mace_tp.model.parameters import named_parameters
from mace_tp.model.potential import Potential
from mace_tp.model.saved_model import create_model
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.registry import TensorProductConfig, build_tensor_products


def to_model(source: MaceTorchModel, dtype: jnp.dtype) -> Potential:
    """Convert a model of mace-torch to a potential with `cg`."""
    untrained = create_model(source.architecture, TensorProductConfig("cg", "cg"), source.statistics, dtype, seed=0)
    weights = to_ours(source.arrays, source.architecture, len(source.statistics.atomic_numbers))
    names = named_parameters(untrained.params)
    assert {name: leaf.shape for name, leaf in names.items()} == {name: weight.shape for name, weight in weights.items()}
    leaves = [jnp.asarray(weights[name], dtype) for name in names]
    return dataclasses.replace(untrained, params=jax.tree.unflatten(jax.tree.structure(untrained.params), leaves))


def write_model(path: Path, model: Potential) -> None:
    """Write a potential as a file of mace-torch, with parameters and constants in the potential's dtype.

    Raises:
        InputError: mace-torch has no such model, is not installed, or the file cannot be written.
    """
    products = build_tensor_products(model.tensor_product)
    others = sorted({str(product) for product in (products.interaction, products.product_basis) if not isinstance(product, CG)})
    if others:
        raise InputError(f"{path}: mace-torch has only Clebsch-Gordan products (tensor_product=cg), not {', '.join(others)}")
    if model.architecture.forces != "gradient":
        raise InputError(f"{path}: mace-torch has no models with {model.architecture.forces} forces")
    parameters = {name: np.asarray(value, np.float64) for name, value in named_parameters(model.params).items()}
    files.write(path, model.architecture, model.statistics, parameters, model.dtype.name)
