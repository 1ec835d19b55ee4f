"""Potentials as a calculator of ASE."""

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
from ase.calculators.calculator import Parameters, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mace_tp.data.atoms import configuration_of
from mace_tp.data.elements import symbols
from mace_tp.data.validation import check_configuration
from mace_tp.errors import InputError
from mace_tp.model.potential import Potential, StructureEvaluator, StructurePrediction
from mace_tp.model.saved_model import load_model
from mace_tp.runtime.devices import find_device, set_dtype

Source = str | Path | Potential
"""A run directory, the folder `model` in it, or a potential."""


class Calculator(AseCalculator):
    """Energy, forces and stress of one potential; or of a committee, several that were trained with different seeds: mean and spread.

    `results` holds ASE's `energy`, `free_energy` (the same), `energies`, `forces` and `stress`. A committee adds `energy_std` (eV),
    `forces_std` [atoms, 3] and `stress_std` [6], standard deviations around the mean (n-1), and `energy_committee` [models] and
    `forces_committee` [models, atoms, 3].

    `name` is "mace_tp". `parameters` holds the paths of the `models` as given (None for a potential), a digest of the `weights` of each,
    and the `dtype`. ASE's databases and trajectories keep both.

    Copies and pickles hold the potentials and the last results, and compile again when they are used. A process that was forked after jax
    was used cannot compute.

    Args:
        models: one, or several as a committee.
        dtype: `float32` or `float64`; None keeps that of the training. float64 is switched on in jax for the whole process.
        device: `auto`, `cpu` or `gpu`.

    Raises:
        InputError: there is no model or no such device, or models of a committee have different elements.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]
    name = "mace_tp"  # pyright: ignore - in ASE's databases and trajectories; a property of its base class, whose subclasses assign it

    def __init__(self, models: Source | Sequence[Source], *, dtype: str | None = None, device: str = "auto") -> None:
        super().__init__()
        if dtype not in (None, "float32", "float64"):
            raise InputError(f"dtype={dtype}: must be one of float32, float64")
        self.device, self._device_name = find_device(device), device
        with jax.default_device(self.device):
            sources = _sources(models)
            self._potentials = [_load(source, dtype) for source in sources]
            self._evaluators = _evaluators(self._potentials)
        self.elements = self._potentials[0].elements
        self.dtype: str = self._potentials[0].dtype.name
        paths = [None if isinstance(source, Potential) else str(source) for source in sources]
        weights = [_digest(potential) for potential in self._potentials]
        self.parameters = Parameters({"models": paths, "weights": weights, "dtype": self.dtype})

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"atoms": self.atoms, "results": self.results, "parameters": self.parameters}
        return functools.partial(type(self), device=self._device_name), (self._potentials,), state

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Refuse new parameters, which would be recorded without having an effect.

        Raises:
            InputError: any parameter is given.
        """
        if parameters:
            raise InputError(f"{', '.join(parameters)}: cannot be changed; make another Calculator(models, dtype=..., device=...)")
        return {}

    @property
    def num_compilations(self) -> int:
        """How many programs have been compiled so far."""
        return sum({id(evaluator.program): evaluator.num_compilations for evaluator in self._evaluators}.values())

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Compute all properties at once; ASE calls this.

        Raises:
            InputError: there are no atoms, the models cannot take an element or the cell, a position is not a number, or this process was
                forked after jax was used.
        """
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise InputError("atoms: none are given; set atoms.calc, or call get_potential_energy(atoms)")
        configuration = configuration_of(self.atoms)
        check_configuration(configuration)
        with jax.default_device(self.device):
            predictions = [evaluator(configuration) for evaluator in self._evaluators]
        self.results = _results(predictions)


def _sources(models: Source | Sequence[Source]) -> list[Source]:
    given = list(models) if isinstance(models, Iterable) and not isinstance(models, str) else [models]
    if not given:
        raise InputError("models: is empty; a calculator needs one model or several")
    for source in given:
        if not isinstance(source, (str, Path, Potential)):
            raise InputError(f"models: {source!r} is neither the path of a run or model directory nor a potential of mace_tp.load")
    return given


def _load(source: Source, dtype: str | None) -> Potential:
    if isinstance(source, Potential):
        wanted = set_dtype(dtype or source.dtype.name)
        # Do nothing unless the dtype changes: an unpickled calculator may never be used, and must not fail before it is.
        return source if source.dtype == wanted else source.astype(wanted)
    return load_model(Path(os.path.expanduser(source)), None if dtype is None else np.dtype(dtype))


def _evaluators(potentials: Sequence[Potential]) -> list[StructureEvaluator]:
    """An evaluator for each potential. Potentials that differ only in their parameters share programs, those of one cutoff neighbors."""
    elements = potentials[0].elements
    for potential in potentials:
        if potential.elements != elements:
            names = symbols(potential.elements)
            raise InputError(f"models: one has the elements {names}, another {symbols(elements)}; a committee needs the same")
    evaluators: list[StructureEvaluator] = []
    for potential in potentials:
        made = list(zip(potentials, evaluators))
        program = next((evaluator.program for other, evaluator in made if _are_alike(potential, other)), None)
        verlet = next((evaluator.verlet for other, evaluator in made if potential.cutoff == other.cutoff), None)
        evaluators.append(StructureEvaluator(potential, program, verlet))
    return evaluators


def _digest(potential: Potential) -> str:
    """Sixteen digits of a hash of the weights, which distinguish models of one path; the same in float32 and float64."""
    arrays = [np.asarray(leaf, np.float32).tobytes() for leaf in jax.tree.leaves(potential.params)]
    return hashlib.sha256(b"".join(arrays)).hexdigest()[:16]


def _are_alike(potential: Potential, other: Potential) -> bool:
    same = (potential.architecture, potential.tensor_product, potential.statistics, potential.dtype)
    return same == (other.architecture, other.tensor_product, other.statistics, other.dtype)


def _results(predictions: Sequence[StructurePrediction]) -> dict[str, float | np.ndarray]:
    """Means in the form of ASE, and the spread of a committee."""
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
