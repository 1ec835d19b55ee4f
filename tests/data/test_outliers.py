"""Frames far outside the rest are named with their numbers, and no others."""

import dataclasses

import numpy as np
import pytest

from mace_tp.data.configuration import Configuration
from mace_tp.data.graphs import build_graphs
from mace_tp.data.outliers import outliers

E0 = {1: -13.6, 8: -2041.0}


def _warned(frames) -> str:
    return "\n".join(outliers(build_graphs(frames, tuple(E0), tuple(E0.values()), 3.0)))


def _numbered(frames) -> list[Configuration]:
    return [dataclasses.replace(frame, source=f"a.xyz frame {index}") for index, frame in enumerate(frames)]


@pytest.fixture
def thermal(make_configuration):
    """Forty water molecules as of a simulation: energies spread by 0.05 eV, components of forces by 1 eV/Å, stress by 0.02 eV/Å³."""
    rng = np.random.default_rng(0)
    return _numbered(
        make_configuration(
            cell=8 * np.eye(3), pbc=(True,) * 3, energy=-2077.0 + 0.05 * rng.normal(), forces=rng.normal(size=(3, 3)),
            stress=0.02 * np.diag(rng.normal(size=3)),
        )
        for _ in range(40)
    )  # fmt: skip


def test_nothing_is_said_of_thermal_structures(thermal):
    assert _warned(thermal) == "" == _warned(thermal[:9]) == _warned(thermal[:1])


def test_one_wrong_energy_is_named(thermal):
    thermal[17] = dataclasses.replace(thermal[17], energy=thermal[17].energy + 80.0)
    warning = _warned(thermal)
    assert warning.startswith("energies far from those of similar frames: a.xyz frame 17 (+26.") and warning.count("frame ") == 1


def test_one_wrong_energy_among_many_compositions_is_named(make_configuration):
    rng = np.random.default_rng(0)
    frames = []
    for index in range(30):
        counts = index % 6 + 1, index // 6 + 1
        numbers = np.repeat([1, 8], counts)
        energy = counts[0] * -17.0 + counts[1] * -2045.0 + 0.1 * rng.normal()
        frames.append(make_configuration(numbers, 2 * rng.permutation(64)[: len(numbers), None] * np.eye(3)[0], energy=energy))
    assert _warned(_numbered(frames)) == ""
    frames[11] = dataclasses.replace(frames[11], energy=frames[11].energy + 80.0)
    warning = _warned(_numbered(frames))
    assert "a.xyz frame 11 (+" in warning and warning.count("frame ") == 1


@pytest.mark.parametrize(("field", "value", "said"), [
    ("forces", 500.0, "forces far larger than in other frames: a.xyz frame 17 (500 eV/Å)"),
    ("stress", 2.0, "stress far larger than in other frames: a.xyz frame 17 (2 eV/Å³)"),
])  # fmt: skip
def test_one_wrong_component_is_named(field, value, said, thermal):
    spoiled = thermal[17].labels[field].copy()
    spoiled[0, 0] = value
    thermal[17] = dataclasses.replace(thermal[17], **{field: spoiled})
    assert _warned(thermal) == said


def test_ten_frames_are_listed_and_then_counted(thermal):
    frames = thermal * 5
    frames[::16] = [dataclasses.replace(frame, forces=frame.forces + 500.0) for frame in frames[::16]]
    warning = _warned(_numbered(frames))
    assert warning.count("a.xyz") == 1 and warning.count("frame ") == 10 and warning.endswith(" and 3 more")


def test_another_kind_of_structures_is_no_outlier(thermal):
    """A fifth of the frames are broken molecules of 3 eV more, and have large forces."""
    for index in range(0, 40, 5):
        frame = thermal[index]
        thermal[index] = dataclasses.replace(frame, energy=frame.energy + 3.0, forces=30 * frame.forces)
    assert _warned(thermal) == ""
