"""Fine-tuning: a trained model as the start of a training, with its weights and the statistics that they depend on."""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.elements import symbols
from mace_tp.errors import InputError
from mace_tp.model.parameters import named_parameters
from mace_tp.model.potential import Potential
from mace_tp.model.saved_model import load_model, read_dtype, read_statistics
from mace_tp.tensor_products.registry import TensorProducts, build_tensor_products

_LOG = logging.getLogger("mace_tp")
# The rate for random weights is 30 times as large; with it a trained model is first spoiled and then learnt anew.
LEARNING_RATE = 0.001
# Largest difference of two E0s that count as the same, eV.
_SAME_ENERGY = 1e-6
# Parts of the names of parameters with an axis of elements: the axis, and whether the layer divides by the root of their number.
_ELEMENT_AXES = {"embedding.weight": (0, True), "skip.weights": (0, True), "product_basis.weights": (1, False)}
# Parts of the names of parameters that belong to the tensor product of each site.
_OF_PRODUCT = {"interaction": ("interaction.radial_mlp.output", "interaction.linear.weights"), "product_basis": ("product_basis.weights",)}


def statistics_of_start(path: str | None, kept: DatasetStatistics | None) -> DatasetStatistics | None:
    """Statistics of the model that a training starts from; None if the weights are random.

    Args:
        path: `model.init_from`.
        kept: statistics of the run that is resumed; None for a new run.

    Raises:
        InputError: there is no model.
    """
    if path is None:
        return None
    return kept or read_statistics(Path(os.path.expanduser(path)))


def starting_statistics(path: str | None, statistics: DatasetStatistics, kept: DatasetStatistics | None) -> DatasetStatistics:
    """Statistics of a training: those of its data, but scale, shift and neighbors of the model that it starts from.

    Args:
        path: `model.init_from`.
        statistics: of the training data.
        kept: of the model that the training starts from (`statistics_of_start`).
    """
    if kept is None:
        return statistics
    _LOG.info(
        "model.init_from=%s: with its scale %.4g eV/Å, shift %.4g eV and %.4g neighbors per atom", path, kept.scale, kept.shift,
        kept.avg_num_neighbors,
    )  # fmt: skip
    return dataclasses.replace(statistics, avg_num_neighbors=kept.avg_num_neighbors, scale=kept.scale, shift=kept.shift)


def started_from(path: str, model: Potential, frozen: frozenset[str] = frozenset()) -> Potential:
    """Copy every parameter that the saved model shares with `model`; leave the rest unchanged and log their names.

    The interaction energy is then that of the saved model. Weights of a site with another tensor product are not copied. If the model has
    fewer elements, it gets the weights of its elements.

    Args:
        path: a run directory or a model's folder.
        model: of the same architecture, apart from the forces and tensor products, with `starting_statistics`.
        frozen: names of parameters that will not be trained.

    Raises:
        InputError: there is no model, or its architecture differs; lists the differences. Or it lacks parameters that are frozen.
    """
    field = f"model.init_from={path}"
    mine = named_parameters(model.params)
    dtype = next(iter(mine.values())).dtype
    source = load_model(Path(os.path.expanduser(path)), dtype)
    if (saved := read_dtype(Path(os.path.expanduser(path)))).itemsize > dtype.itemsize:
        _LOG.warning("%s: its weights are %s, and are rounded to %s; dtype=%s keeps them", field, saved, dtype, saved)
    _require_elements(field, source, model)
    if differences := _differences(source, model):
        raise InputError(f"{field}: another architecture; {differences}")
    _tell_energies(field, source, model)
    theirs = _of_elements(named_parameters(source.params), source.statistics.atomic_numbers, model.statistics.atomic_numbers)
    fresh = _names_of_products(mine, _other_sites(source, model))
    taken = {name: theirs[name] for name in mine if name in theirs and name not in fresh}
    rest = {"only there": sorted(theirs.keys() - mine.keys()), "new": [name for name in mine if name not in taken]}
    if random := [name for name in rest["new"] if name in frozen]:
        raise InputError(f"optimizer.freeze: random weights would stay as they are, because {path} has none to take: {', '.join(random)}")
    listed = [f"{kind}: {', '.join(names)}" for kind, names in rest.items() if names]
    _LOG.info("; ".join([f"{field}: {len(taken)} of {len(mine)} parameters taken", *listed]))
    leaves = [taken.get(name, leaf) for name, leaf in mine.items()]
    return dataclasses.replace(model, params=jax.tree.unflatten(jax.tree.structure(model.params), leaves))


def _require_elements(field: str, source: Potential, model: Potential) -> None:
    there, here = source.statistics.atomic_numbers, model.statistics.atomic_numbers
    if unknown := set(here) - set(there):
        raise InputError(f"{field}: does not know {symbols(unknown)} of the training data; its elements are {symbols(there)}")


def _of_elements(parameters: Mapping[str, jax.Array], there: Sequence[int], here: Sequence[int]) -> dict[str, jax.Array]:
    """Parameters of the same function for fewer elements.

    If a layer divides by the root of the number of elements, its parameters compensate for the change.
    """
    if tuple(there) == tuple(here):
        return dict(parameters)
    positions, root = jnp.asarray(np.searchsorted(there, here)), np.sqrt(len(here) / len(there))
    chosen = {}
    for name, value in parameters.items():
        part = next((part for part in _ELEMENT_AXES if part in name), None)
        if part is not None:
            axis, is_divided = _ELEMENT_AXES[part]
            value = jnp.take(value, positions, axis=axis) * jnp.asarray(root if is_divided else 1.0, value.dtype)
        chosen[name] = value
    return chosen


def _tell_energies(field: str, source: Potential, model: Potential) -> None:
    """Warn if the E0s differ: the total energies then differ from those of the saved model by a constant for each atom."""
    there = dict(zip(source.statistics.atomic_numbers, source.statistics.atomic_energies, strict=True))
    here = dict(zip(model.statistics.atomic_numbers, model.statistics.atomic_energies, strict=True))
    changed = [
        f"{symbols([z])} {there[z]:.6g} there, {energy:.6g} eV here" for z, energy in here.items() if abs(there[z] - energy) > _SAME_ENERGY
    ]
    if changed:
        _LOG.warning("%s: it was trained with other E0s, which the ones of the data replace: %s", field, "; ".join(changed))


def _other_sites(source: Potential, model: Potential) -> list[str]:
    """Sites whose tensor products differ."""
    there, here = (build_tensor_products(each.tensor_product) for each in (source, model))
    return [site for site in _OF_PRODUCT if _product(there, site) != _product(here, site)]


def _product(products: TensorProducts, site: str) -> Any:
    return products.interaction if site == "interaction" else products.product_basis


def _names_of_products(parameters: Mapping[str, jax.Array], sites: Sequence[str]) -> set[str]:
    parts = [part for site in sites for part in _OF_PRODUCT[site]]
    return {name for name in parameters if any(part in name for part in parts)}


def _differences(source: Potential, model: Potential) -> str:
    """Fields of the architecture that differ, apart from the forces."""
    there, here = (each.architecture.to_dict() for each in (source, model))
    return "; ".join(
        f"model.{name} is {there[name]} there, {value} here" for name, value in here.items() if there[name] != value and name != "forces"
    )
