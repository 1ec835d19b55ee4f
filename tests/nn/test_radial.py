"""Radial functions: normalized, smooth at the cutoff, finite with finite derivatives at zero length."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.nn.embedding import DISTANCE_TRANSFORMS, Pairs, edge_harmonics, radial_embedding
from mace_tp.nn.radial import agnesi_transform, bessel_basis, polynomial_cutoff, safe_norm, soft_transform

CUTOFF = 4.5


def test_bessel_functions_are_orthonormal_with_weight_r_squared():
    nodes, weights = np.polynomial.legendre.leggauss(60)
    lengths, weights = CUTOFF / 2 * (nodes + 1), CUTOFF / 2 * weights
    values = bessel_basis(jnp.asarray(lengths), CUTOFF, 8)
    np.testing.assert_allclose(np.einsum("rn,rm,r->nm", values, values, weights * lengths**2), np.eye(8), atol=1e-12)


def test_bessel_functions_are_the_closed_form():
    lengths = np.array([0.3, 1.7, 4.2])
    expected = np.sqrt(2 / CUTOFF) * np.sin(np.arange(1, 6) * np.pi * lengths[:, None] / CUTOFF) / lengths[:, None]
    np.testing.assert_allclose(bessel_basis(jnp.asarray(lengths), CUTOFF, 5), expected, rtol=1e-12)


def test_bessel_functions_vanish_at_the_cutoff():
    np.testing.assert_allclose(bessel_basis(jnp.array([CUTOFF]), CUTOFF, 8), 0, atol=1e-14)


def test_bessel_functions_have_their_limit_and_no_slope_at_zero_length():
    expected = np.sqrt(2 / CUTOFF) * np.arange(1, 5) * np.pi / CUTOFF
    np.testing.assert_allclose(bessel_basis(jnp.zeros(()), CUTOFF, 4), expected, rtol=1e-14)
    np.testing.assert_allclose(jax.jacfwd(lambda r: bessel_basis(r, CUTOFF, 4))(jnp.zeros(())), 0, atol=1e-14)


@pytest.mark.parametrize("cutoff", [0.0, -1.0])
def test_cutoff_that_is_not_positive_is_an_error(cutoff):
    with pytest.raises(ValueError, match=f"cutoff must be positive, got {cutoff}"):
        bessel_basis(jnp.ones(3), cutoff, 4)


@pytest.mark.parametrize("power", [2, 5, 6])
def test_envelope_falls_from_one_to_zero_with_two_vanishing_derivatives(power):
    def envelope(length: jax.Array) -> jax.Array:
        return polynomial_cutoff(length, CUTOFF, power)

    slope, curvature = jax.jit(jax.grad(envelope)), jax.jit(jax.grad(jax.grad(envelope)))
    inside = jnp.asarray(CUTOFF - 1e-9)
    assert envelope(jnp.zeros(())) == 1
    assert abs(envelope(inside)) < 1e-14 and abs(slope(inside)) < 1e-12 and abs(curvature(inside)) < 1e-6
    assert (np.diff(polynomial_cutoff(jnp.linspace(0, CUTOFF, 50), CUTOFF, power)) < 0).all()


def test_envelope_is_the_polynomial_of_mace():
    """p = 5 written out: 1 - 21 t⁵ + 35 t⁶ - 15 t⁷."""
    t = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(polynomial_cutoff(jnp.asarray(t * CUTOFF), CUTOFF, 5), 1 - 21 * t**5 + 35 * t**6 - 15 * t**7, rtol=1e-12)


@pytest.mark.parametrize("length", [CUTOFF, CUTOFF + 1e-6, 3 * CUTOFF])
def test_envelope_and_its_slope_are_exactly_zero_beyond_the_cutoff(length):
    value, slope = jax.value_and_grad(lambda r: polynomial_cutoff(r, CUTOFF, 5))(jnp.asarray(length))
    assert value == 0 and slope == 0


@pytest.mark.parametrize("transform", [agnesi_transform, soft_transform])
def test_transforms_have_finite_derivatives_everywhere(transform):
    lengths, radii = jnp.array([0.0, 1e-3, 1.1, 4.0, 30.0]), jnp.full(5, 1.4)
    slope = jax.grad(lambda r: transform(r, radii).sum())
    assert np.isfinite(slope(lengths)).all()
    assert np.isfinite(jax.grad(lambda r: slope(r).sum())(lengths)).all()


def test_transforms_have_their_published_limits():
    """Agnesi: 1 at zero, falling. Soft: 3/4 of the radii at zero, the length itself far away."""
    lengths, radii = jnp.linspace(0.0, 10.0, 200), jnp.full(200, 1.4)
    agnesi, soft = agnesi_transform(lengths, radii), soft_transform(lengths, radii)
    assert agnesi[0] == 1 and (np.diff(agnesi) < 0).all() and agnesi[-1] > 0
    np.testing.assert_allclose(soft[0], 0.75 * 1.4, rtol=1e-3)
    np.testing.assert_allclose(soft[-1], 10.0, rtol=1e-12)


def test_length_of_the_zero_vector_has_a_zero_gradient():
    vectors = jnp.array([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    np.testing.assert_allclose(safe_norm(vectors), [0, 5], rtol=1e-15)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda v: safe_norm(v).sum()))(vectors), [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-15)
    assert np.isfinite(jax.jit(jax.hessian(lambda v: safe_norm(v).sum()))(vectors)).all()


@pytest.mark.parametrize("transform", DISTANCE_TRANSFORMS)
def test_radial_embedding_is_exactly_zero_from_the_cutoff_on(transform):
    lengths = jnp.array([CUTOFF, 2 * CUTOFF, 1.0])
    pairs = Pairs(lengths, (jnp.zeros(3, int), jnp.ones(3, int)), jnp.full(3, 1.4))
    embedding = radial_embedding(pairs, CUTOFF, 6, 5, transform).values
    assert not embedding[:2].any() and np.abs(embedding[2]).min() > 1e-3


@pytest.mark.parametrize(
    "function", [lambda r: bessel_basis(r, CUTOFF, 3), lambda r: polynomial_cutoff(r, CUTOFF, 5)], ids=["bessel", "envelope"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(function, dtype):
    assert function(jnp.ones(2, dtype)).dtype == dtype


def test_harmonics_are_those_of_mace_torch():
    """Written out in e3nn's order and component normalization: y is the polar axis."""
    x, y, z = direction = np.array([0.48, -0.6, 0.64])
    expected = [1, *(np.sqrt(3) * direction)]
    scale = np.sqrt(15)
    expected += [scale * x * z, scale * x * y, np.sqrt(5) * (y**2 - (x**2 + z**2) / 2), scale * y * z, scale / 2 * (z**2 - x**2)]
    np.testing.assert_allclose(edge_harmonics(jnp.asarray(2.5 * direction)[None], 2)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("l_max", range(7))
def test_harmonics_and_their_gradients_are_those_of_e3nn(l_max, dtype):
    vectors = jnp.asarray(np.random.default_rng(l_max).normal(size=(5, 3)), dtype)
    probe = jnp.asarray(np.random.default_rng(1).normal(size=(5, (l_max + 1) ** 2)), dtype)

    def plain(vectors: jax.Array, l_max: int) -> jax.Array:
        return e3nn.spherical_harmonics(e3nn.s2_irreps(l_max), vectors, normalize=True, normalization="component").array

    found, expected = (jax.vjp(lambda vectors, form=form: form(vectors, l_max), vectors) for form in (edge_harmonics, plain))

    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=tolerance * (l_max + 1))
    np.testing.assert_allclose(found[1](probe)[0], expected[1](probe)[0], rtol=0, atol=10 * tolerance * (l_max + 1) ** 2)
    assert found[0].dtype == dtype


def test_harmonics_of_the_zero_vector_are_zero_and_have_no_gradient():
    values, pull_back = jax.vjp(lambda vectors: edge_harmonics(vectors, 3), jnp.zeros((1, 3)))

    np.testing.assert_array_equal(values, np.eye(1, 16))
    np.testing.assert_array_equal(pull_back(jnp.ones((1, 16)))[0], np.zeros((1, 3)))
