"""Values in files that a training ignores, although they may change the meaning of its labels."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mace_tp.data.configuration import Configuration, LabelKeys
from mace_tp.data.labels import find_label, stress_matrix
from mace_tp.data.writers import PREDICTED

_Places = tuple[Mapping[str, Any], ...]
# Quantities besides the structure that determine its energy. A head is a method; models here have only one.
_STATES = (
    "head", "charge", "total_charge", "net_charge", "spin", "total_spin", "spin_multiplicity", "multiplicity", "electric_field",
    "external_field", "external_electric_field",
)  # fmt: skip
_MAX_VALUES = 4
# eV, eV/Å, eV/Å³: labels that differ by less are the same label, written twice.
_SAME_LABEL = {"energy": 1e-4, "forces": 1e-4, "stress": 1e-6}
_METHODS = ("REF", "ref", "DFT", "dft")


def second_labels(frames: Sequence[_Places], keys: LabelKeys) -> list[tuple[str, str, str, int]]:
    """(field, key, other key, number of frames) of labels that frames have a second time with different values.

    A second name has a method before or after the field (`REF_energy`, `energy_pbe`). It counts if the method is called REF or DFT, or if
    both energy and forces of it exist: an `atomization_energy` is no second label. Predictions that `evaluate` wrote do not count. Fields
    with a non-default key are not checked, because the user has chosen that key.

    Args:
        frames: for each frame, the places that hold labels.
        keys: names of the labels in use.
    """
    counts: collections.Counter[tuple[str, str, str]] = collections.Counter()
    defaults = vars(LabelKeys())
    for places in frames:
        names = {name for place in places for name in place}
        for field, key in vars(keys).items():
            for other in _other_names(field, names) if key == defaults[field] else ():
                if _differ(field, find_label(key, places), find_label(other, places)):
                    counts[field, key, other] += 1
    return [(*names, count) for names, count in counts.items()]


def ignored_states(configurations: Sequence[Configuration]) -> list[str]:
    """Warn if frames differ in a charge, a spin, a field or a head, which no model here sees."""
    infos = [configuration.frame.info for configuration in configurations if configuration.frame is not None]
    names = sorted({name for info in infos for name in info if name.lower() in _STATES})
    texts = []
    for name in names:
        counts = collections.Counter(_text(info[name]) if name in info else _usual(name) for info in infos)
        if len(counts) > 1:
            common = [f"{value} in {count}" for value, count in counts.most_common(_MAX_VALUES)]
            more = [f"{len(counts) - _MAX_VALUES} other values"] if len(counts) > _MAX_VALUES else []
            texts.append(f"{name} ({', '.join(common + more)})")
    return [f"a model does not see {', '.join(texts)}: frames that differ only in these look the same to it"] if texts else []


def _other_names(field: str, names: set[str]) -> Iterator[str]:
    for name in sorted(names - {*PREDICTED.values()}):
        before, behind = name.removesuffix(f"_{field}"), name.removeprefix(f"{field}_")
        if before != name and (before in _METHODS or {f"{before}_energy", f"{before}_forces"} <= names):
            yield name
        if behind != name and {f"energy_{behind}", f"forces_{behind}"} <= names:
            yield name


def _differ(field: str, label: Any, other: Any) -> bool:
    """Whether both are numbers of the same count with different values."""
    left, right = (np.asarray(value) for value in (label, other))
    if left.dtype.kind not in "iuf" or right.dtype.kind not in "iuf":
        return False
    if field == "stress":  # one may have six numbers and the other nine
        if not {left.size, right.size} <= {6, 9}:
            return False
        left, right = stress_matrix(left), stress_matrix(right)
    return left.size == right.size and not np.allclose(left.ravel(), right.ravel(), rtol=0.0, atol=_SAME_LABEL[field])


def _text(value: Any) -> str:
    """A value as short text, in which 0, 0.0, -0.0 and a vector of zeros are the same."""
    if isinstance(value, list | tuple | np.ndarray) and not np.any(value):
        return "0"
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return f"{value + 0.0:g}"
    return " ".join(str(value).split())[:40]


def _usual(name: str) -> str:
    """The default value of a state, for frames without it."""
    if "head" in name.lower():
        return "none"
    return "1" if "multiplicity" in name.lower() or name.lower() == "spin" else "0"
