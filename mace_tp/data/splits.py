"""Separation of configurations: training from validation, isolated atoms from the rest."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from mace_tp.data.configuration import Configuration, LabelKeys
from mace_tp.data.elements import symbol
from mace_tp.data.neighbors import neighbor_list
from mace_tp.data.order import random_order
from mace_tp.data.readers import read_configurations
from mace_tp.errors import InputError

# eV. Energies of an isolated atom that differ by more come from different calculations.
SAME_ENERGY = 1e-4
# Å. Boxes of isolated atoms are at least 10 Å wide; in crystals of nearly all elements the nearest neighbor is within 5 Å.
_CRYSTAL = 5.0


def split(configurations: Sequence[Configuration], valid_fraction: float, seed: int) -> tuple[list[Configuration], list[Configuration]]:
    """Draw a random validation set; both parts keep the order of the file. A seed gives the same split on every machine.

    Args:
        configurations: at least two, unless the fraction is zero.
        valid_fraction: in [0, 1); 0 means no validation set. Rounded to whole configurations, at least one in each part.
        seed: not negative.

    Returns:
        (train, valid).

    Raises:
        InputError: the fraction is out of range, or there is only one configuration.
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
    """Separate the frames tagged `config_type=IsolatedAtom` (or `isolated_atom`).

    A single atom without the tag stays with the rest: it may be training data.

    Returns:
        (configurations without the tag, {Z: energy in eV} of the tagged ones).

    Raises:
        InputError: a tagged frame has several atoms or no energy, is a crystal, or an element has two energies.
    """
    tagged = [configuration for configuration in configurations if _is_tagged(configuration)]
    return [configuration for configuration in configurations if not _is_tagged(configuration)], _energies(tagged)


def read_isolated_atoms(path: str | Path, keys: LabelKeys, cutoff: float) -> dict[int, float]:
    """{Z: energy in eV} of the isolated atoms in a file: tagged frames, and single atoms in vacuum for elements without a tagged frame.

    Args:
        path: the file, which may contain other frames.
        keys: names of the labels.
        cutoff: Å. A single atom with a periodic image within the cutoff is a crystal.

    Raises:
        InputError: the file cannot be read, has no isolated atom, or has no tags and only crystals of an element; and the errors of
            `separate_isolated_atoms`.
    """
    frames = read_configurations(path, keys)
    tagged = [frame for frame in frames if _is_tagged(frame)]
    elements = {_element(frame) for frame in tagged}
    single = [frame for frame in frames if frame.num_atoms == 1 and _element(frame) not in elements]
    isolated = [frame for frame in single if _nearest_image(frame, cutoff) == np.inf]
    if not tagged and not single:
        raise InputError(f"{path}: no frame with a single atom; data.isolated_atoms needs one for each element")
    if not tagged:  # the file must hold isolated atoms only, so a crystal in it is a mistake
        _require_isolated(single, {_element(frame) for frame in isolated}, cutoff)
    return _energies(tagged + isolated)


def _require_isolated(single: Sequence[Configuration], elements: Collection[int], cutoff: float) -> None:
    """Require an isolated atom of the element of every frame."""
    for frame in single:
        if _element(frame) not in elements:
            away = f"whose periodic image is {_nearest_image(frame, cutoff):.2f} Å away"
            raise InputError(
                f"{frame.source}: a crystal of {symbol(_element(frame))}, {away}; data.isolated_atoms needs a single atom without an image "
                f"within the cutoff of {cutoff:g} Å"
            )


def _element(frame: Configuration) -> int:
    return int(frame.atomic_numbers[0])


def _nearest_image(frame: Configuration, cutoff: float) -> float:
    """The distance of a single atom's nearest periodic image, Å; infinite if none is within the cutoff."""
    shifts = neighbor_list(frame.positions, frame.cell, frame.pbc, cutoff)[2]
    return float(np.linalg.norm(shifts, axis=1).min(initial=np.inf))


def is_isolated_atom(config_type: str) -> bool:
    """Whether a configuration type is the tag of isolated atoms."""
    return config_type.lower().replace("_", "") == "isolatedatom"


def _is_tagged(configuration: Configuration) -> bool:
    return is_isolated_atom(configuration.config_type)


def _energies(frames: Sequence[Configuration]) -> dict[int, float]:
    energies: dict[int, float] = {}
    for frame in frames:
        if frame.num_atoms != 1:
            raise InputError(f"{frame.source}: tagged {frame.config_type} but has {frame.num_atoms} atoms; the tag is for single atoms")
        nearest = _nearest_image(frame, _CRYSTAL) if _is_tagged(frame) else np.inf
        if nearest < np.inf:
            raise InputError(f"{frame.source}: tagged {frame.config_type} but is a crystal, whose periodic image is {nearest:.2f} Å away")
        if frame.energy is None:
            raise InputError(f"{frame.source}: an isolated atom without an energy; give it one under data.energy_key, or remove the frame")
        number = _element(frame)
        if abs(energies.setdefault(number, frame.energy) - frame.energy) > SAME_ENERGY:
            both = f"{energies[number]} and {frame.energy} eV"
            raise InputError(f"{frame.source}: a second isolated {symbol(number)} with another energy ({both}); keep one")
    return energies
