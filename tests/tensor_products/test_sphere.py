"""Tables on the sphere and on the torus: harmonics, derivatives, exact rules, and that a coarser rule is not exact."""

import e3nn_jax as e3nn
import numpy as np
import pytest

from mace_tp.tensor_products.gaunt import TorusSampler
from mace_tp.tensor_products.pointwise import PointwisePowers, Sampler
from mace_tp.tensor_products.sphere import Quadrature, harmonics, product_grid, quadrature, rotational_derivatives
from mace_tp.tensor_products.spherical_grid import SphereSampler


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Random unit vectors, and the poles."""
    points = np.concatenate([np.random.default_rng(0).normal(size=(20, 3)), [[0, 1, 0], [0, -1, 0]]])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_harmonics_are_those_of_e3nn(points):
    expected = e3nn.spherical_harmonics(e3nn.s2_irreps(10), points, normalize=True, normalization="component").array
    np.testing.assert_allclose(harmonics(points, 10), expected, atol=1e-12)


def test_bracket_of_two_linear_functions_is_their_cross_product(points):
    """r·(∇(a·r) × ∇(b·r)) = r·(a × b), and l = 1 harmonics are sqrt(3) r."""
    a, b = np.random.default_rng(1).normal(size=(2, 3))
    first, second = (table[:, 1:4] for table in rotational_derivatives(points, 1))
    bracket = (first @ a) * (second @ b) - (second @ a) * (first @ b)
    np.testing.assert_allclose(bracket, 3 * points @ np.cross(a, b), atol=1e-12)


def test_derivatives_turn_the_function(points):
    """Squared length of r × ∇Y against differences along two directions."""
    coefficients = np.random.default_rng(2).normal(size=25)
    first, second = rotational_derivatives(points, 4)
    squared = (first @ coefficients) ** 2 + (second @ coefficients) ** 2
    step, expected = 1e-5, 0.0
    for axis in np.eye(3):
        # Turning the points about an axis by a small angle, to first order.
        turned = [points + sign * step * np.cross(axis, points) for sign in (1, -1)]
        there, back = (harmonics(p / np.linalg.norm(p, axis=1, keepdims=True), 4) @ coefficients for p in turned)
        expected = expected + ((there - back) / (2 * step)) ** 2
    np.testing.assert_allclose(squared, expected, rtol=1e-7)


def _error(rule: Quadrature, degree: int) -> float:
    """Largest error of the means of all harmonics up to a degree, of which only the first is not zero."""
    return np.abs(rule.weights @ harmonics(rule.points, degree) - np.eye((degree + 1) ** 2)[0]).max()


@pytest.mark.parametrize("degree", range(31))
def test_rules_are_exact_up_to_their_degree(degree):
    assert _error(product_grid(degree), degree) < 1e-12 and _error(product_grid(degree), degree + 2) > 1e-2
    assert _error(quadrature(degree), degree) < 1e-12
    assert quadrature(degree).weights.min() > 0
    assert len(quadrature(degree).weights) <= len(product_grid(degree).weights) == (degree // 2 + 1) * (degree + 1)


SIZES = [(1, 1, 2), (2, 1, 3), (3, 1, 3), (3, 2, 4), (2, 2, 3)]


def _projected_power(sampler: Sampler, l_in: int, l_out: int, order: int) -> np.ndarray:
    samples = sampler.samples(l_in, l_out, order)
    return samples.projection @ (samples.values @ np.random.default_rng(0).normal(size=((l_in + 1) ** 2, 3))) ** order


@pytest.mark.parametrize("l_in, l_out, order", SIZES)
@pytest.mark.parametrize("sampler", [SphereSampler, TorusSampler])
def test_powers_are_exact_and_those_of_a_coarser_rule_are_not(sampler, l_in, l_out, order):
    expected = _projected_power(SphereSampler(excess=9), l_in, l_out, order)
    np.testing.assert_allclose(_projected_power(sampler(), l_in, l_out, order), expected, atol=1e-12 * np.abs(expected).max())
    # Lebedev's rules have odd degrees, so that one degree less may be the same rule.
    coarser = _projected_power(sampler(excess=-2), l_in, l_out, order)
    assert np.abs(coarser - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("sampler", [SphereSampler, TorusSampler])
def test_a_rule_that_is_too_coarse_does_not_commute_with_rotations(sampler, matrix):
    irreps_in, irreps_out = e3nn.s2_irreps(2), e3nn.Irreps("0e+1o")
    weights, feats = np.ones((7, 1, 1)), np.random.default_rng(0).normal(size=(9, 3, 1))
    turn, turn_out = (np.array(irreps.D_from_matrix(matrix)) for irreps in (irreps_in, irreps_out))
    errors = []
    for excess in (0, -2):
        plan = PointwisePowers(sampler(excess), irreps_in, irreps_out, correlation=3)
        before = plan(weights[: plan.num_weights], np.tensordot(turn, feats, axes=1), np.zeros(3, int))
        after = np.tensordot(turn_out, plan(weights[: plan.num_weights], feats, np.zeros(3, int)), axes=1)
        errors.append(np.abs(before - after).max())
    assert errors[0] < 1e-10
    # A rule that contains with each point its opposite commutes with the inversion, however coarse.
    assert errors[1] > 1e-3
