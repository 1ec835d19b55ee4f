"""The smallest structures that show a law of the data room: a water molecule and random gases."""

from collections.abc import Callable

import numpy as np
import pytest

from mace_tp.data.configuration import Configuration

WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])


@pytest.fixture
def make_configuration() -> Callable[..., Configuration]:
    """Builds a configuration; by default water, free of periodic boundaries, with energy and forces."""

    def make(
        atomic_numbers=(8, 1, 1),
        positions=WATER,
        cell=((0, 0, 0), (0, 0, 0), (0, 0, 0)),
        pbc=(False, False, False),
        energy=-14.0,
        forces="zero",
        stress=None,
        config_type="",
        source="memory frame 0",
    ) -> Configuration:
        numbers = np.array(atomic_numbers)
        forces = np.zeros((len(numbers), 3)) if isinstance(forces, str) else forces
        return Configuration(numbers, np.array(positions, float), np.array(cell, float), pbc, energy, forces, stress, config_type, source)

    return make


@pytest.fixture
def make_gas(make_configuration) -> Callable[..., Configuration]:
    """Builds hydrogen atoms at random places, at least 0.5 Å apart, in a box of 1 atom per 10 Å³."""

    def make(num_atoms: int, seed: int, **fields) -> Configuration:
        rng = np.random.default_rng(seed)
        positions = np.zeros((0, 3))
        while len(positions) < num_atoms:
            trial = rng.uniform(0, (10 * num_atoms) ** (1 / 3), 3)
            if len(positions) == 0 or np.linalg.norm(positions - trial, axis=1).min() > 0.5:
                positions = np.vstack([positions, trial])
        return make_configuration(atomic_numbers=[1] * num_atoms, positions=positions, forces=rng.normal(size=(num_atoms, 3)), **fields)

    return make
