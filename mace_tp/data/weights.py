"""How much each configuration counts in the loss: weights of its file, and weights by `config_type`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mace_tp.data.configuration import Configuration, LabelKeys, LabelWeights
from mace_tp.errors import InputError

NO_TYPE = "Default"
"""The name of frames without a `config_type` in `data.config_type_weights`, as in mace-torch."""


MAX_WEIGHT = 1e6
"""Larger weights leave nothing of the other frames, and their losses soon no finite float32."""


def is_weight(value: Any) -> bool:
    """Whether a value can be a weight in the loss."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and 0 <= value <= MAX_WEIGHT


def frame_weights(info: Mapping[str, Any], keys: LabelKeys, source: str) -> LabelWeights:
    """The weights of a frame's labels: `config_weight` times `config_energy_weight`, `config_forces_weight`, `config_stress_weight`.

    A weight that the frame does not have is one. Where the stress is read from a virial, `config_virials_weight` is the stress's weight
    if the frame has it.

    Args:
        info: what the frame says of itself.
        keys: where the labels are.
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
    """The configurations with weights times those of their types, and without the labels whose weight is zero.

    Args:
        configurations: as read.
        type_weights: {config_type: weight}; `Default` is for configurations without a type, and a type that is not there has weight one.
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
