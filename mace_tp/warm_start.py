"""Weights of a trained model as the start of a training."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax

from mace_tp.config import build_tensor_products
from mace_tp.data.elements import symbols
from mace_tp.errors import InputError
from mace_tp.saved_model import Model, load_model, named_parameters

_LOG = logging.getLogger("mace_tp")
# Relative; statistics of the same data read twice are equal to the last bit, or to one of summation.
_SAME_STATISTIC = 1e-9


def started_from(path: str, model: Model) -> Model:
    """The model with the parameters that the one on disk has, too; the others stay as they are, and a line in the log names them.

    With the same statistics the energy is then that of the model on disk.

    Args:
        path: a run directory or a model's folder.
        model: of the same elements and architecture, apart from the forces.

    Raises:
        InputError: there is no model, or it is another one; lists the differences.
    """
    field = f"model.init_from={path}"
    mine = named_parameters(model.params)
    source = load_model(Path(path).expanduser(), next(iter(mine.values())).dtype)
    _require_same_elements(field, source, model)
    if differences := _differences(_shape(source), _shape(model)):
        raise InputError(f"{field}: another architecture; {differences}")
    if differences := _differences(_statistics(source), _statistics(model)):
        _LOG.warning("%s: it saw other data, so its energies are not quite kept; %s", field, differences)
    theirs = named_parameters(source.params)
    leaves = [theirs.get(name, leaf) for name, leaf in mine.items()]
    rest = {"only there": sorted(theirs.keys() - mine.keys()), "new": sorted(mine.keys() - theirs.keys())}
    listed = [f"{kind}: {', '.join(names)}" for kind, names in rest.items() if names]
    _LOG.info("; ".join([f"{field}: {len(mine.keys() & theirs.keys())} of {len(mine)} parameters taken", *listed]))
    return dataclasses.replace(model, params=jax.tree.unflatten(jax.tree.structure(model.params), leaves))


def _require_same_elements(field: str, source: Model, model: Model) -> None:
    there, here = source.statistics.atomic_numbers, model.statistics.atomic_numbers
    if there != here:
        raise InputError(f"{field}: its elements are {symbols(there)}, those of the training data {symbols(here)}; they must be the same")


def _shape(model: Model) -> dict[str, Any]:
    """All that parameters of the energy depend on, by the names of the configuration."""
    products = build_tensor_products(model.tensor_product)
    architecture = {f"model.{name}": value for name, value in dataclasses.asdict(model.architecture).items() if name != "forces"}
    return architecture | {"tensor_product.interaction": products.interaction, "tensor_product.product_basis": products.product_basis}


def _statistics(model: Model) -> dict[str, float]:
    """Statistics by which the parameters are multiplied, rounded."""
    values = model.statistics
    energies = {f"E0 of {symbols([z])}": energy for z, energy in zip(values.atomic_numbers, values.atomic_energies, strict=True)}
    return energies | {"average neighbors": values.avg_num_neighbors, "scale": values.scale, "shift": values.shift}


def _differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    return "; ".join(f"{name} is {there[name]} there, {value} here" for name, value in here.items() if not _is_same(there[name], value))


def _is_same(there: Any, here: Any) -> bool:
    if isinstance(here, float):
        return abs(there - here) <= _SAME_STATISTIC * abs(here)
    return there == here
