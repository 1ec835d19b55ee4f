"""Trained models as a calculator of ASE."""

import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ase
import jax
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mace_tp.data.configuration import Configuration
from mace_tp.data.elements import symbols
from mace_tp.data.validation import check_configuration
from mace_tp.errors import InputError
from mace_tp.model.saved_model import Model, load_model
from mace_tp.model.structure_field import StructureField, StructurePrediction
from mace_tp.runtime.devices import find_device, set_dtype

Source = str | Path | Model
"""A run directory, the folder `model` in it, or a loaded model."""


class Calculator(AseCalculator):
    """Energy, forces and stress of one model, or of several that were trained with other seeds: their mean and its spread.

    Besides ASE's `energy`, `free_energy` (the same), `energies`, `forces` and `stress` a committee has in `results`
    `energy_std` (eV), `forces_std` [atoms, 3] and `stress_std` [6], standard deviations of the models around their mean (n-1), and
    `energy_committee` [models] and `forces_committee` [models, atoms, 3].

    `name` is "mace_tp"; `parameters` has the paths of the `models` as they were given (None for a loaded one), a digest of the `weights`
    of each, and the `dtype`. ASE's databases and trajectories keep both.

    Copies and pickles hold the models and the last results; they compile anew when they are used. A process that was forked after jax
    was used cannot compute.

    Args:
        models: one, or several as a committee.
        dtype: `float32` or `float64`; as trained if None. float64 is switched on in jax, where it stays.
        device: `auto`, `cpu` or `gpu`.

    Raises:
        InputError: there is no model or no such device, or models of a committee have different elements.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]
    name = "mace_tp"  # with the parameters in ASE's databases and trajectories

    def __init__(self, models: Source | Sequence[Source], *, dtype: str | None = None, device: str = "auto") -> None:
        super().__init__()
        if dtype not in (None, "float32", "float64"):
            raise InputError(f"dtype={dtype}: must be one of float32, float64")
        self.device, self._device_name = find_device(device), device
        with jax.default_device(self.device):
            sources = _sources(models)
            self._models = [_load(source, dtype) for source in sources]
            self._fields = _fields(self._models)
        self.elements = self._models[0].statistics.atomic_numbers
        self.dtype: str = self._models[0].dtype.name
        paths = [None if isinstance(source, Model) else str(source) for source in sources]
        self.parameters |= {"models": paths, "weights": [_digest(model) for model in self._models], "dtype": self.dtype}

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"atoms": self.atoms, "results": self.results, "parameters": self.parameters}
        return functools.partial(type(self), device=self._device_name), (self._models,), state

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Refuse other parameters, which would only be written down.

        Raises:
            InputError: there are any.
        """
        if parameters:
            raise InputError(f"{', '.join(parameters)}: cannot be changed; make another Calculator(models, dtype=..., device=...)")
        return {}

    @property
    def num_compilations(self) -> int:
        """How many programs have been compiled so far."""
        return sum({id(field.step): field.num_compilations for field in self._fields}.values())

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """What ASE calls: everything is computed at once.

        Raises:
            InputError: there are no atoms, an element or a cell that the models cannot take, a position that is no number, or this process
                was forked after jax was used.
        """
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise InputError("atoms: none are given; set atoms.calc, or call get_potential_energy(atoms)")
        configuration = _configuration(self.atoms)
        check_configuration(configuration)
        with jax.default_device(self.device):
            predictions = [field(configuration) for field in self._fields]
        self.results = _results(predictions)


def _sources(models: Source | Sequence[Source]) -> list[Source]:
    given = list(models) if isinstance(models, Iterable) and not isinstance(models, str) else [models]
    if not given:
        raise InputError("models: is empty; a calculator needs one model or several")
    for source in given:
        if not isinstance(source, (str, Path, Model)):
            raise InputError(f"models: {source!r} is neither the path of a run or model directory nor a model that load_model returned")
    return given


def _load(source: Source, dtype: str | None) -> Model:
    if isinstance(source, Model):
        wanted = set_dtype(dtype or source.dtype.name)
        # A calculator that is unpickled computes nothing before it is used: an error here would be none of the task that it belongs to.
        return source if source.dtype == wanted else source.astype(wanted)
    return load_model(Path(os.path.expanduser(source)), None if dtype is None else np.dtype(dtype))


def _fields(models: Sequence[Model]) -> list[StructureField]:
    """A field for each model; models that differ in nothing but their parameters share their programs, those of one cutoff neighbors."""
    elements = models[0].statistics.atomic_numbers
    for model in models:
        if model.statistics.atomic_numbers != elements:
            others = symbols(model.statistics.atomic_numbers)
            raise InputError(f"models: one has the elements {others}, another {symbols(elements)}; a committee needs the same")
    fields: list[StructureField] = []
    for model in models:
        made = list(zip(models, fields))
        step = next((field.step for other, field in made if _are_alike(model, other)), None)
        verlet = next((field.verlet for other, field in made if model.architecture.cutoff == other.architecture.cutoff), None)
        fields.append(StructureField(model, step, verlet))
    return fields


def _digest(model: Model) -> str:
    """The weights in sixteen digits, which tell models of one path from each other; the same in float32 and float64."""
    arrays = [np.asarray(leaf, np.float32).tobytes() for leaf in jax.tree.leaves(model.params)]
    return hashlib.sha256(b"".join(arrays)).hexdigest()[:16]


def _are_alike(model: Model, other: Model) -> bool:
    same = (model.architecture, model.tensor_product, model.statistics, model.dtype)
    return same == (other.architecture, other.tensor_product, other.statistics, other.dtype)


def _configuration(atoms: ase.Atoms) -> Configuration:
    return Configuration(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        cell=np.asarray(atoms.cell),
        pbc=(bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
        energy=None,
        forces=None,
        stress=None,
        config_type="",
        source=f"atoms {atoms.get_chemical_formula()}" if len(atoms) else "atoms",
    )


def _results(predictions: Sequence[StructurePrediction]) -> dict[str, float | np.ndarray]:
    """Means in ASE's form, and what a committee has besides."""
    values = {
        "energy": np.array([prediction.energy for prediction in predictions]),
        "energies": np.stack([prediction.energies for prediction in predictions]),
        "forces": np.stack([prediction.forces for prediction in predictions]),
    }
    stresses = [full_3x3_to_voigt_6_stress(prediction.stress) for prediction in predictions if prediction.stress is not None]
    if len(stresses) == len(predictions):
        values["stress"] = np.stack(stresses)
    results = {name: value.mean(axis=0) for name, value in values.items()}
    results["energy"] = results["free_energy"] = float(results["energy"])
    if len(predictions) > 1:
        results |= {f"{name}_std": value.std(axis=0, ddof=1) for name, value in values.items() if name != "energies"}
        results |= {"energy_committee": values["energy"], "forces_committee": values["forces"]}
    return results
