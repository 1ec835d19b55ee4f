"""Weights of configurations in the loss: from their file, and by `config_type`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mace_tp.data.configuration import Configuration, LabelKeys, LabelWeights
from mace_tp.errors import InputError

NO_TYPE = "Default"
"""Stands for frames without a `config_type` in `data.config_type_weights`, as in mace-torch."""


MAX_WEIGHT = 1e6
"""Larger weights drown all other frames, and make losses overflow in float32."""


def is_weight(value: Any) -> bool:
    """Whether a value can be a weight in the loss."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and 0 <= value <= MAX_WEIGHT


def frame_weights(info: Mapping[str, Any], keys: LabelKeys, source: str) -> LabelWeights:
    """The weights of a frame's labels: `config_weight` times `config_energy_weight`, `config_forces_weight`, `config_stress_weight`.

    Missing weights are one. If the stress is read from a virial, a `config_virials_weight` in the frame is the weight of the stress.

    Args:
        info: `atoms.info` of the frame.
        keys: names of the labels.
        source: for messages.

    Raises:
        InputError: a weight is not a number, negative, or larger than `MAX_WEIGHT`.

    Source: ACEsuit's `config_from_atoms`.
    """
    virials = "config_virials_weight"
    stress = virials if "virial" in keys.stress.lower() and virials in info else "config_stress_weight"
    names = ("config_energy_weight", "config_forces_weight", stress)
    whole = _weight(info, "config_weight", source)
    return LabelWeights(*(whole * _weight(info, name, source) for name in names))


def weigh(configurations: Sequence[Configuration], type_weights: Mapping[str, float]) -> list[Configuration]:
    """Multiply weights by those of the configuration types, and drop labels of weight zero.

    Args:
        configurations: as read.
        type_weights: {config_type: weight}; `Default` stands for no type. Types that are not listed have weight one.
    """
    return [_weighed(configuration, type_weights.get(configuration.config_type or NO_TYPE, 1.0)) for configuration in configurations]


def weightless(configurations: Sequence[Configuration]) -> list[str]:
    """Fields (energy, forces, stress) whose labels `weigh` removed in every frame, because their weight was zero."""
    return [
        field
        for field in LabelWeights._fields
        if all(frame.labels[field] is None for frame in configurations)
        and any(getattr(frame.weights, field) == 0 for frame in configurations)
    ]


def _weighed(configuration: Configuration, factor: float) -> Configuration:
    weights = LabelWeights(*(factor * weight for weight in configuration.weights))
    if all(weight == 1 for weight in weights):
        return configuration
    kept = {field: label if getattr(weights, field) else None for field, label in configuration.labels.items()}
    return dataclasses.replace(configuration, weights=weights, **kept)


def _weight(info: Mapping[str, Any], name: str, source: str) -> float:
    value = info.get(name, 1.0)
    if not is_weight(value):
        raise InputError(f"{source}: {name} is {str(value)[:40]!r}; a weight is a number from 0 to {MAX_WEIGHT:g}")
    return float(value)
