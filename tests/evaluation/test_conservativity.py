"""Measures of how far forces are from a gradient: closed forms of linear fields, and of models with either kind of forces."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.data.graphs import build_graphs
from mace_tp.evaluation.conservativity import (
    LOOP_RADIUS,
    basis_probes,
    circle_work,
    jacobian_products,
    measure_conservativity,
    random_planes,
    random_probes,
    squared_parts,
    summarize_parts,
)  # fmt: skip
from mace_tp.model.saved_model import create_model
from mace_tp.tensor_products.registry import TensorProductConfig

ATOMS, NODES = 4, 5
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(3 * NODES, 3 * NODES))
MATRIX[3 * ATOMS :] = MATRIX[:, 3 * ATOMS :] = 0  # the last node is padding
SYMMETRIC, ANTISYMMETRIC = (MATRIX + MATRIX.T) / 2, (MATRIX - MATRIX.T) / 2
SHARE = np.sum(ANTISYMMETRIC**2) / np.sum(MATRIX**2)
POSITIONS = jnp.asarray(RNG.normal(size=(NODES, 3)))


def linear(positions: jax.Array) -> jax.Array:
    """F = J r with a J that is known."""
    return (MATRIX @ positions.ravel()).reshape(-1, 3)


def bent(positions: jax.Array) -> jax.Array:
    """A field with curvature whose Jacobian at POSITIONS is the same J."""
    return linear(positions) + 3.0 * (positions - POSITIONS) ** 2


def _measured(probes, field=bent):
    parts = np.array(jax.vmap(lambda vector: squared_parts(field, POSITIONS, vector))(jnp.asarray(probes.vectors)))
    return summarize_parts(parts, np.zeros(1), probes)


def test_products_are_those_of_the_jacobian():
    vector = jnp.asarray(RNG.normal(size=(NODES, 3)))

    forward, transposed = jacobian_products(bent, POSITIONS, vector)

    np.testing.assert_allclose(forward.ravel(), MATRIX @ vector.ravel(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(transposed.ravel(), MATRIX.T @ vector.ravel(), rtol=1e-12, atol=1e-14)


def test_all_basis_vectors_give_the_frobenius_norms():
    found = _measured(basis_probes(ATOMS, NODES))

    assert found.asymmetry == pytest.approx(np.linalg.norm(MATRIX - MATRIX.T) / np.linalg.norm(MATRIX), rel=1e-12)
    assert found.rest_share == pytest.approx(SHARE, rel=1e-12)
    assert found.jacobian_norm == pytest.approx(np.linalg.norm(MATRIX), rel=1e-12)
    assert (found.is_exact, found.rest_share_error, found.num_probes) == (True, 0, 12)


def test_random_vectors_agree_within_the_error_that_they_state():
    deviations = []
    for seed in range(20):
        found = _measured(random_probes(64, ATOMS, NODES, seed), linear)
        assert not found.is_exact and 0 < found.rest_share_error < 0.2 * SHARE
        assert found.jacobian_norm == pytest.approx(np.linalg.norm(MATRIX), rel=0.2)
        deviations.append((found.rest_share - SHARE) / found.rest_share_error)

    # The root mean square of twenty normal numbers is within 0.5 of one in all but one case of 1,000.
    assert 0.5 < np.sqrt(np.mean(np.square(deviations))) < 1.5


def test_share_is_that_of_isotropic_displacements():
    displacements = RNG.normal(size=(20_000, 3 * NODES))
    symmetric, antisymmetric = (np.mean(np.sum((displacements @ part.T) ** 2, axis=1)) for part in (SYMMETRIC, ANTISYMMETRIC))

    assert antisymmetric / (symmetric + antisymmetric) == pytest.approx(SHARE, abs=0.01)


@pytest.mark.parametrize("part, asymmetry", [(SYMMETRIC, 0.0), (ANTISYMMETRIC, 2.0)], ids=["symmetric", "antisymmetric"])
def test_the_ends_of_the_scale(part, asymmetry):
    found = _measured(basis_probes(ATOMS, NODES), lambda positions: (part @ positions.ravel()).reshape(-1, 3))

    assert found.asymmetry == pytest.approx(asymmetry, abs=1e-14)


def test_a_field_that_is_zero_has_no_asymmetry():
    found = _measured(random_probes(3, ATOMS, NODES, 0), jnp.zeros_like)

    assert (found.asymmetry, found.jacobian_norm) == (0, 0)


def test_work_around_a_circle_is_its_area_times_the_curl():
    for plane in random_planes(3, ATOMS, NODES, seed=0):
        first, second = plane.reshape(2, -1)
        np.testing.assert_allclose(plane.reshape(2, -1) @ plane.reshape(2, -1).T, np.eye(2), atol=1e-12)
        assert not plane[:, ATOMS:].any()

        work = circle_work(linear, POSITIONS, jnp.asarray(plane))

        assert work == pytest.approx(2 * math.pi * LOOP_RADIUS**2 * second @ ANTISYMMETRIC @ first, rel=1e-10)


@pytest.fixture(scope="module")
def measured(architecture, statistics, molecule, crystal):
    """Models with either kind of forces, one on a molecule and one on a crystal."""
    found = {}
    for forces, configuration in (("gradient", molecule), ("direct", crystal)):
        shape = dataclasses.replace(architecture, forces=forces, l_max=1, correlation=2, radial_mlp=[8])
        model = create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)
        graphs = build_graphs([configuration], statistics.atomic_numbers, statistics.atomic_energies, shape.cutoff)
        [found[forces]] = measure_conservativity(model, graphs)
    return found


def test_forces_of_a_gradient_are_conservative(measured):
    found = measured["gradient"]
    assert found.asymmetry < 1e-10 and found.rest_share < 1e-20 and found.jacobian_norm > 1e-2
    assert found.loop_work < 1e-6, "meV"


def test_direct_forces_are_not(measured):
    found = measured["direct"]
    assert 1e-2 < found.asymmetry < 2 and found.rest_share == pytest.approx(found.asymmetry**2 / 4)
    assert found.num_probes == 9 and found.loop_work > 1e-4, "meV"
