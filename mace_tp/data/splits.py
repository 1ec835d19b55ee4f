"""Divides configurations: training from validation, isolated atoms from the rest."""

from collections.abc import Sequence
from pathlib import Path

from mace_tp.data.configuration import Configuration, LabelKeys
from mace_tp.data.elements import symbol
from mace_tp.data.order import random_order
from mace_tp.data.readers import read_configurations
from mace_tp.errors import InputError

# eV. Two energies of one isolated atom that differ by more belong to two calculations.
SAME_ENERGY = 1e-4


def split(configurations: Sequence[Configuration], valid_fraction: float, seed: int) -> tuple[list[Configuration], list[Configuration]]:
    """Draw a validation set at random; both parts keep the order of the file. The same seed gives the same split on every machine.

    Args:
        configurations: at least two, unless the fraction is zero.
        valid_fraction: 0 (no validation set) up to, and without, 1. Rounded to whole configurations, at least one on each side.
        seed: not negative.

    Returns:
        (train, valid).

    Raises:
        InputError: the fraction is out of range, or there is nothing to divide.
    """
    if not 0 <= valid_fraction < 1:
        raise InputError(f"data.valid_fraction={valid_fraction}: must be at least 0 and less than 1")
    if valid_fraction == 0:
        return list(configurations), []
    if len(configurations) < 2:
        raise InputError("data.train: a single configuration cannot be divided into training and validation data; give data.valid")
    num_valid = min(max(round(valid_fraction * len(configurations)), 1), len(configurations) - 1)
    chosen = set(random_order(len(configurations), seed)[:num_valid].tolist())
    train = [configuration for index, configuration in enumerate(configurations) if index not in chosen]
    return train, [configurations[index] for index in sorted(chosen)]


def separate_isolated_atoms(configurations: Sequence[Configuration]) -> tuple[list[Configuration], dict[int, float]]:
    """Take out the frames tagged `config_type=IsolatedAtom` (or `isolated_atom`).

    A single atom without the tag stays: it may be training data.

    Returns:
        (the other configurations, {Z: energy in eV}).

    Raises:
        InputError: a tagged frame has several atoms or no energy, or one element has two energies.
    """
    tagged = [configuration for configuration in configurations if _is_tagged(configuration)]
    return [configuration for configuration in configurations if not _is_tagged(configuration)], _energies(tagged)


def read_isolated_atoms(path: str | Path, keys: LabelKeys) -> dict[int, float]:
    """{Z: energy in eV} of every frame with one atom in a file, tagged or not.

    Raises:
        InputError: the file cannot be read, has no frame with one atom, or as in `separate_isolated_atoms`.
    """
    frames = [frame for frame in read_configurations(path, keys) if frame.num_atoms == 1 or _is_tagged(frame)]
    if not frames:
        raise InputError(f"{path}: no frame with a single atom; data.isolated_atoms needs one for each element")
    return _energies(frames)


def _is_tagged(configuration: Configuration) -> bool:
    return configuration.config_type.lower().replace("_", "") == "isolatedatom"


def _energies(frames: Sequence[Configuration]) -> dict[int, float]:
    energies: dict[int, float] = {}
    for frame in frames:
        if frame.num_atoms != 1:
            raise InputError(f"{frame.source}: tagged {frame.config_type} but has {frame.num_atoms} atoms; the tag is for single atoms")
        if frame.energy is None:
            raise InputError(f"{frame.source}: an isolated atom without an energy; give it one under data.energy_key, or remove the frame")
        number = int(frame.atomic_numbers[0])
        if abs(energies.setdefault(number, frame.energy) - frame.energy) > SAME_ENERGY:
            both = f"{energies[number]} and {frame.energy} eV"
            raise InputError(f"{frame.source}: a second isolated {symbol(number)} with another energy ({both}); keep one")
    return energies
