"""Derivatives of a list of sums of products are those that calculus says, and such lists again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.kernels.evaluate import Problem, evaluate_plainly
from mace_tp.kernels.polynomial import Builder, Operand, Polynomial, Term

ROWS, ITEMS, CHANNELS = 3, 5, 2
INDEX = jnp.asarray([0, 2, 2, 1, 0], jnp.int32)


@pytest.fixture(scope="session")
def polynomial() -> Polynomial:
    """(2 a₀ s₀ + a₁²) b, summed by the index, and s₁ a₀, summed over channels; of gathered vectors a, a vector b and scalars s."""
    builder = Builder([Operand(2, index=0), Operand(1, values_lead=True), Operand(2, is_scalar=True)])
    (a0, a1), (b,), (s0, s1) = builder.inputs
    inner = builder.add([Term(2.0, (a0, s0)), Term(1.0, (a1, a1))])
    return builder.build(
        [Operand(1, index=0), Operand(1, is_scalar=True)], [[builder.add([Term(1.0, (inner, b))])], [builder.add([Term(1.0, (s1, a0))])]]
    )


@pytest.fixture(scope="session")
def operands() -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=shape)) for shape in [(ROWS, 2, CHANNELS), (1, ITEMS, CHANNELS), (ITEMS, 2)])


def _plain(polynomial: Polynomial, rows: tuple[int, ...], operands: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return evaluate_plainly(Problem(polynomial, rows), operands, (INDEX,), None)


def test_value_is_what_the_formula_says(polynomial, operands):
    a, b, s = operands
    gathered = a[INDEX]
    of_items = 2 * gathered[:, 0] * s[:, :1] * b[0] + b[0] * gathered[:, 1] ** 2

    summed, scalar = _plain(polynomial, (ROWS, ITEMS), operands)

    np.testing.assert_allclose(summed[:, 0], np.zeros((ROWS, CHANNELS)) + jax.ops.segment_sum(of_items, INDEX, ROWS), atol=1e-14)
    np.testing.assert_allclose(scalar[:, 0], (s[:, 1:] * gathered[:, 0]).sum(axis=1), atol=1e-14)


@pytest.mark.parametrize("inputs", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("outputs", [(0,), (1,), (0, 1)])
def test_derivative_is_that_of_jax(polynomial, operands, outputs, inputs):
    shapes = [array.shape for array in _plain(polynomial, (ROWS, ITEMS), operands)]
    cotangents = [jnp.asarray(np.random.default_rng(i).normal(size=shape)) for i, shape in enumerate(shapes)]

    def linear(*wanted: jax.Array) -> jax.Array:
        values = list(operands)
        for i, array in zip(inputs, wanted, strict=True):
            values[i] = array
        results = _plain(polynomial, (ROWS, ITEMS), tuple(values))
        return sum(jnp.vdot(cotangents[i], results[i]) for i in outputs)

    expected = jax.grad(linear, argnums=tuple(range(len(inputs))))(*(operands[i] for i in inputs))
    derivative = polynomial.derivative(outputs, inputs)
    found = _plain(derivative, tuple((ROWS, ITEMS, ITEMS)[i] for i in inputs), (*operands, *(cotangents[i] for i in outputs)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def test_equal_sums_are_kept_once_and_useless_ones_dropped():
    builder = Builder([Operand(2)])
    a, b = builder.inputs[0]
    first = builder.add([Term(1.0, (a, b)), Term(2.0, (a,))])
    again = builder.add([Term(2.0, (a,)), Term(0.5, (b, a)), Term(0.5, (a, b))])
    builder.add([Term(1.0, (a, a))])

    assert first == again
    assert len(builder.build([Operand(1)], [[first]]).sums) == 1


def test_key_tells_polynomials_apart():
    def made(constant: float, **operand) -> Polynomial:
        builder = Builder([Operand(1)])
        return builder.build([Operand(1, **operand)], [[builder.add([Term(constant, (0, 0))])]])

    keys = {made(1.0).key, made(2.0).key, made(1.0, index=0).key, made(1.0, is_scalar=True).key, made(1.0, values_lead=True).key}
    assert len(keys) == 5 and made(1.0).key in keys


def test_what_does_not_vanish_in_empty_channels_is_not_summed_over_them():
    builder = Builder([Operand(1), Operand(1, is_scalar=True)])
    vector, scalar = (values[0] for values in builder.inputs)
    mixed = builder.add([Term(1.0, (vector, scalar)), Term(1.0, (scalar,))])

    with pytest.raises(ValueError, match="sum over channels of terms that each have a vector"):
        builder.build([Operand(1, is_scalar=True)], [[mixed]])


def test_scalars_are_not_gathered():
    with pytest.raises(ValueError, match="neither gathered nor summed"):
        Operand(1, index=0, is_scalar=True)


def test_products_with_a_sum_of_nothing_vanish():
    builder = Builder([Operand(2)])
    a, b = builder.inputs[0]
    zero = builder.add([])

    assert builder.add([Term(1.0, (a, b)), Term(2.0, (zero, a))]) == builder.add([Term(1.0, (a, b))])
    assert builder.add([Term(1.0, (a,)), Term(-1.0, (a,)), Term(1.0, (zero,))]) == zero
