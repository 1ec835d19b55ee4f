"""Errors by element and by configuration type, and the worst configurations with their place in the file."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mace_tp.data.configuration import Configuration
from mace_tp.data.elements import symbol
from mace_tp.data.graphs import Graph
from mace_tp.evaluation.batches import ConfigurationPrediction
from mace_tp.evaluation.metrics import MILLI, ErrorSums, summarize

_NO_TYPE = "none"
_NOTHING = np.zeros(0)


@dataclasses.dataclass(frozen=True)
class ConfigurationErrors:
    """Predicted minus labelled. None: not labelled or not predicted."""

    configuration: Configuration
    energy: float | None  # eV
    forces: np.ndarray | None  # [atoms, 3], eV/Å
    stress: np.ndarray | None  # [3, 3], eV/Å³

    @property
    def energy_per_atom(self) -> float | None:
        """meV/atom."""
        return None if self.energy is None else MILLI * self.energy / self.configuration.num_atoms

    @property
    def force_rmse(self) -> float | None:
        """RMSE over the components of all atoms, meV/Å."""
        return None if self.forces is None else MILLI * float(np.sqrt(np.mean(self.forces**2)))


@dataclasses.dataclass(frozen=True)
class BadConfiguration:
    """One of the worst configurations. An error without a label is None."""

    file: str | None  # None: not read from a file
    frame: int | None  # index in the file, such that `ase.io.read(file, frame)` gives it
    formula: str  # in Hill's order
    config_type: str
    force_rmse: float | None  # meV/Å
    energy_error: float | None  # predicted minus labelled, meV/atom


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """Errors of a data set by group; keys and units are those of `metrics.summarize`."""

    per_element: dict[str, dict[str, float]]  # by symbol, ascending Z: `num_atoms`, and errors of forces
    per_config_type: dict[str, dict[str, float]]  # by name: `num_configs`, and all errors
    worst_forces: list[BadConfiguration]  # largest force RMSE first
    worst_energies: list[BadConfiguration]  # largest |error| per atom first


def configuration_errors(
    configurations: Sequence[Configuration], graphs: Sequence[Graph], predictions: Sequence[ConfigurationPrediction]
) -> list[ConfigurationErrors]:
    """The errors of every configuration, in float64. The three sequences have the same order."""
    return [_errors(*parts) for parts in zip(configurations, graphs, predictions, strict=True)]


def break_down(errors: Sequence[ConfigurationErrors], num_worst: int) -> Breakdown:
    """Compute errors by group, over the labels of each group.

    Args:
        errors: of the whole data set.
        num_worst: number of worst configurations to list, for forces and for energies each.
    """
    return Breakdown(
        per_element=_per_element(errors),
        per_config_type=_per_config_type(errors),
        worst_forces=_worst(errors, lambda error: error.force_rmse, num_worst),
        worst_energies=_worst(errors, lambda error: error.energy_per_atom, num_worst),
    )


def force_components(errors: Iterable[ConfigurationErrors]) -> dict[str, np.ndarray]:
    """Errors of labelled forces by element: {symbol: [atoms, 3] in eV/Å}, ascending Z."""
    labelled = [error for error in errors if error.forces is not None]
    numbers = np.concatenate([error.configuration.atomic_numbers for error in labelled] or [np.zeros(0, int)])
    forces = np.concatenate([error.forces for error in labelled] or [np.zeros((0, 3))])
    return {symbol(int(number)): forces[numbers == number] for number in np.unique(numbers)}


def formula(atomic_numbers: Sequence[int]) -> str:
    """Chemical formula in Hill's order: carbon, hydrogen, then alphabetical; without carbon all alphabetical."""
    counts = Counter(symbol(int(number)) for number in atomic_numbers)
    first = [name for name in ("C", "H") if "C" in counts and name in counts]
    names = first + sorted(counts.keys() - set(first))
    return "".join(name if counts[name] == 1 else f"{name}{counts[name]}" for name in names)


def _type(configuration: Configuration) -> str:
    return configuration.config_type or _NO_TYPE


def _errors(configuration: Configuration, graph: Graph, prediction: ConfigurationPrediction) -> ConfigurationErrors:
    comparable = graph.stress is not None and prediction.stress is not None
    return ConfigurationErrors(
        configuration=configuration,
        energy=None if graph.interaction_energy is None else float(prediction.interaction_energy - graph.interaction_energy),
        forces=None if graph.forces is None else np.asarray(prediction.forces, np.float64) - graph.forces,
        stress=np.asarray(prediction.stress, np.float64) - graph.stress if comparable else None,
    )


def _per_element(errors: Sequence[ConfigurationErrors]) -> dict[str, dict[str, float]]:
    return {
        name: {"num_atoms": len(forces)} | summarize(_sums(_NOTHING, _NOTHING, forces, _NOTHING))
        for name, forces in force_components(errors).items()
    }


def _per_config_type(errors: Sequence[ConfigurationErrors]) -> dict[str, dict[str, float]]:
    types: dict[str, list[ConfigurationErrors]] = {}
    for error in errors:
        types.setdefault(_type(error.configuration), []).append(error)
    return {name: {"num_configs": len(members)} | summarize(_sums_of(members)) for name, members in sorted(types.items())}


def _sums_of(errors: Sequence[ConfigurationErrors]) -> ErrorSums:
    energies = [(error.energy, error.configuration.num_atoms) for error in errors if error.energy is not None]
    forces = [error.forces.ravel() for error in errors if error.forces is not None]
    stresses = [error.stress.ravel() for error in errors if error.stress is not None]
    return _sums(*np.array(energies).reshape(-1, 2).T, np.concatenate([_NOTHING, *forces]), np.concatenate([_NOTHING, *stresses]))


def _sums(energies: np.ndarray, num_atoms: np.ndarray, forces: np.ndarray, stresses: np.ndarray) -> ErrorSums:
    """Sums of errors of energies [configurations], eV, and of components of forces [...], eV/Å, and stresses [...], eV/Å³."""
    return ErrorSums(
        energy_abs=np.sum(np.abs(energies / num_atoms)),
        energy_squared=np.sum((energies / num_atoms) ** 2),
        energy_squared_weighted=0.0,  # used only by the loss
        energy_squared_per_config=np.sum(energies**2),
        num_energies=energies.size,
        force_abs=np.sum(np.abs(forces)),
        force_squared=np.sum(forces**2),
        force_squared_weighted=0.0,
        num_force_components=forces.size,
        stress_abs=np.sum(np.abs(stresses)),
        stress_squared=np.sum(stresses**2),
        stress_squared_weighted=0.0,
        num_stress_components=stresses.size,
    )


def _worst(
    errors: Sequence[ConfigurationErrors], size: Callable[[ConfigurationErrors], float | None], num_worst: int
) -> list[BadConfiguration]:
    """Sorted by |size|, largest first; NaN counts as largest. Ties keep the order of the file."""
    sizes = [(size(error), error) for error in errors]
    known = [(math.inf if math.isnan(value) else abs(value), error) for value, error in sizes if value is not None]
    return [_bad_configuration(error) for _, error in sorted(known, key=lambda pair: -pair[0])[:num_worst]]


def _bad_configuration(error: ConfigurationErrors) -> BadConfiguration:
    configuration = error.configuration
    return BadConfiguration(
        file=None if configuration.frame is None else configuration.frame.path,
        frame=None if configuration.frame is None else configuration.frame.index,
        formula=formula(configuration.atomic_numbers),
        config_type=_type(configuration),
        force_rmse=error.force_rmse,
        energy_error=error.energy_per_atom,
    )
