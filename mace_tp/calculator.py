"""Trained models as a calculator of ASE."""

from collections.abc import Sequence
from pathlib import Path

import ase
import jax
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mace_tp.config import Config, build_device, build_dtype
from mace_tp.data.configuration import Configuration
from mace_tp.data.elements import symbols
from mace_tp.data.validation import check_configuration
from mace_tp.errors import InputError
from mace_tp.saved_model import Model, load_model
from mace_tp.structure_field import StructureField, StructurePrediction

Source = str | Path | Model
"""A run directory, the folder `model` in it, or a loaded model."""


class Calculator(AseCalculator):
    """Energy, forces and stress of one model, or of several that were trained with other seeds: their mean and its spread.

    Besides ASE's `energy`, `free_energy` (the same), `energies`, `forces` and `stress` a committee has in `results`
    `energy_std` (eV), `forces_std` [atoms, 3] and `stress_std` [6], standard deviations of the models around their mean (n-1), and
    `energy_committee` [models] and `forces_committee` [models, atoms, 3].

    Args:
        models: one, or several as a committee.
        dtype: `float32` or `float64`; as trained if None. float64 is switched on in jax, where it stays.
        device: `auto`, `cpu` or `gpu`.

    Raises:
        InputError: there is no model or no such device, or models of a committee have different elements.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, models: Source | Sequence[Source], *, dtype: str | None = None, device: str = "auto") -> None:
        super().__init__()
        if dtype not in (None, "float32", "float64"):
            raise InputError(f"dtype={dtype}: must be one of float32, float64")
        self.device = build_device(Config(device=device))
        given = [models] if isinstance(models, (str, Path, Model)) else list(models)
        if not given:
            raise InputError("models: is empty; a calculator needs one model or several")
        with jax.default_device(self.device):
            jax_dtype = None if dtype is None else build_dtype(Config(dtype=dtype))
            loaded = [model if isinstance(model, Model) else load_model(Path(model).expanduser(), jax_dtype) for model in given]
            self._fields = _fields(loaded)
        self.elements = loaded[0].statistics.atomic_numbers
        self.dtype: str = jax.tree.leaves(loaded[0].params)[0].dtype.name

    @property
    def num_compilations(self) -> int:
        """How many programs have been compiled so far."""
        return sum({id(field.step): field.num_compilations for field in self._fields}.values())

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """What ASE calls: everything is computed at once.

        Raises:
            InputError: there are no atoms, an element or a cell that the models cannot take, or a position that is no number.
        """
        super().calculate(atoms, properties, system_changes)
        configuration = _configuration(self.atoms)
        check_configuration(configuration)
        with jax.default_device(self.device):
            predictions = [field(configuration) for field in self._fields]
        self.results = _results(predictions)


def _fields(models: Sequence[Model]) -> list[StructureField]:
    """A field for each model; models that differ in nothing but their parameters share their programs."""
    elements = models[0].statistics.atomic_numbers
    for model in models:
        if model.statistics.atomic_numbers != elements:
            others = symbols(model.statistics.atomic_numbers)
            raise InputError(f"models: one has the elements {others}, another {symbols(elements)}; a committee needs the same")
    fields: list[StructureField] = []
    for model in models:
        twin = next((field for other, field in zip(models, fields) if _are_alike(model, other)), None)
        fields.append(StructureField(model, None if twin is None else twin.step))
    return fields


def _are_alike(model: Model, other: Model) -> bool:
    same = (model.architecture, model.tensor_product, model.statistics)
    return same == (other.architecture, other.tensor_product, other.statistics)


def _configuration(atoms: ase.Atoms) -> Configuration:
    return Configuration(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        cell=np.asarray(atoms.cell),
        pbc=tuple(bool(periodic) for periodic in atoms.pbc),
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
