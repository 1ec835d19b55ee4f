"""Tables on the sphere and on the torus: harmonics, derivatives, exact rules, and that a coarser rule is not exact."""

import e3nn_jax as e3nn
import numpy as np
import pytest

from mace_tp.tensor_products.algebra.sampling import Sampler, SphereSampler
from mace_tp.tensor_products.algebra.sphere import Quadrature, from_angles, harmonics, product_grid, quadrature, rotational_derivatives
from mace_tp.tensor_products.gaunt import TorusSampler
from mace_tp.tensor_products.ops.pointwise import PointwisePowers


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


def _grid(num_theta: int, num_phi: int) -> Quadrature:
    """Gauss-Legendre nodes times equal steps."""
    nodes, weights = np.polynomial.legendre.leggauss(num_theta)
    points = from_angles(np.arccos(nodes)[:, None], 2 * np.pi * np.arange(num_phi) / num_phi)
    return Quadrature(points.reshape(-1, 3), np.repeat(weights / 2, num_phi) / num_phi)


@pytest.mark.parametrize("degree", range(2, 31))
def test_product_grid_with_one_node_less_in_either_angle_is_not_exact(degree):
    num_theta, num_phi = degree // 2 + 1, degree + 1
    assert _error(_grid(num_theta, num_phi), degree) < 1e-12
    assert _error(_grid(num_theta - 1, num_phi), degree) > 1e-2
    assert _error(_grid(num_theta, num_phi - 1), degree) > 1e-2


@pytest.mark.parametrize("degree", range(31))
def test_rules_are_exact_up_to_their_degree(degree):
    assert _error(product_grid(degree), degree) < 1e-12 and _error(product_grid(degree), degree + 1) > 1e-2
    assert _error(quadrature(degree), degree) < 1e-12
    assert quadrature(degree).weights.min() > 0
    assert len(quadrature(degree).weights) <= len(product_grid(degree).weights) == (degree // 2 + 1) * (degree + 1)


SIZES = [(1, 1, 2), (2, 1, 3), (3, 1, 3), (3, 2, 4), (2, 2, 3)]


def _projected_power(sampler: Sampler, l_in: int, l_out: int, order: int) -> np.ndarray:
    samples = sampler.samples(l_in, l_out, order)
    return samples.projection @ (samples.values @ np.random.default_rng(0).normal(size=((l_in + 1) ** 2, 3))) ** order


def _next_coarser(sampler: type[Sampler], l_in: int, l_out: int, order: int) -> Sampler:
    """With the next smaller number of points: one step less on the torus, the rule before on the sphere."""
    num_points = len(sampler().samples(l_in, l_out, order).values)
    return next(s for s in map(sampler, range(-1, -5, -1)) if len(s.samples(l_in, l_out, order).values) < num_points)


@pytest.mark.parametrize("l_in, l_out, order", SIZES)
@pytest.mark.parametrize("sampler", [SphereSampler, TorusSampler])
def test_powers_are_exact_and_those_of_the_next_coarser_rule_are_not(sampler, l_in, l_out, order):
    expected = _projected_power(SphereSampler(excess=9), l_in, l_out, order)
    np.testing.assert_allclose(_projected_power(sampler(), l_in, l_out, order), expected, atol=1e-12 * np.abs(expected).max())
    coarser = _projected_power(_next_coarser(sampler, l_in, l_out, order), l_in, l_out, order)
    assert np.abs(coarser - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("sampler", [SphereSampler, TorusSampler])
def test_the_next_coarser_rule_does_not_commute_with_rotations(sampler, matrix):
    irreps_in, irreps_out = e3nn.s2_irreps(2), e3nn.Irreps("0e+1o")
    feats, species = np.random.default_rng(0).normal(size=(9, 3, 1)), np.zeros(3, int)
    turn, turn_out = (np.array(irreps.D_from_matrix(matrix)) for irreps in (irreps_in, irreps_out))
    errors = []
    for chosen in (sampler(), _next_coarser(sampler, 2, 1, 3)):
        plan = PointwisePowers(chosen, irreps_in, irreps_out, correlation=3)
        weights = np.ones((plan.num_weights, 1, 1))
        before = plan(weights, np.tensordot(turn, feats, axes=1), species)
        after = np.tensordot(turn_out, plan(weights, feats, species), axes=1)
        errors.append(np.abs(before - after).max())
    assert errors[0] < 1e-10
    assert errors[1] > 1e-3
