"""The compiled kernel gives what the operations of jax give, whatever the shapes, and touches nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiler import needs_compiler
from jax.test_util import check_grads

from mace_tp.kernels import build
from mace_tp.kernels.evaluate import Problem, evaluate, evaluate_plainly
from mace_tp.kernels.flops import kernel_flops
from mace_tp.kernels.polynomial import Builder, Operand, Term
from mace_tp.kernels.source import source

pytestmark = needs_compiler
ITEMS = 37
ROWS = (5, 9)  # of what the two indices name


def _problem(items: int = ITEMS) -> Problem:
    """Every kind of operand: gathered and not, values first and last, scalars; sums by both indices and over channels."""
    vectors = Operand(2, index=0), Operand(3, index=1, values_lead=True), Operand(1, values_lead=True)
    builder = Builder([*vectors, Operand(2, is_scalar=True)])
    (a, b), (x, y, z), (u,), (s, t) = builder.inputs
    inner = builder.add([Term(0.5, (a, x)), Term(1.0, (b, s)), Term(-1.0, (t, u))])
    coupling = builder.add([Term(2.0, (s,)), Term(1.0, (t, s))])
    outputs = [Operand(2, index=1, values_lead=True), Operand(1, index=0), Operand(2), Operand(2, is_scalar=True)]
    sums = [
        [[Term(1.0, (inner, y)), Term(3.0, (z,))], [Term(1.0, (coupling, u))]],
        [[Term(1.0, (inner, inner))]],
        [[Term(1.0, (s, t)), Term(1.0, (z, z)), Term(1.0, (a,))], []],
        [[Term(1.0, (inner, z))], [Term(1.0, (coupling, y))]],
    ]
    polynomial = builder.build(outputs, [[builder.add(terms) for terms in values] for values in sums])
    return Problem(polynomial, (ROWS[1], ROWS[0], items, items))


def _operands(problem: Problem, channels: int, dtype: str, seed: int = 0) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(seed)
    rows = [problem.rows[-1] if operand.index is None else ROWS[operand.index] for operand in problem.polynomial.inputs]
    shapes = [operand.shape(n, channels) for operand, n in zip(problem.polynomial.inputs, rows, strict=True)]
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


@pytest.fixture(scope="session")
def problem() -> Problem:
    return _problem()


def _indices(items: int = ITEMS) -> tuple[jax.Array, ...]:
    """The first does not ascend, the second does; row 0 of the second is nobody's."""
    rng = np.random.default_rng(1)
    return tuple(jnp.asarray(index, jnp.int32) for index in (rng.integers(0, ROWS[0], items), np.sort(rng.integers(1, ROWS[1], items))))


@pytest.fixture(scope="session")
def indices() -> tuple[jax.Array, ...]:
    return _indices()


@pytest.fixture(scope="session")
def mask() -> jax.Array:
    return jnp.asarray(np.random.default_rng(2).random(ITEMS) < 0.7)


def _agree(found, expected, dtype: str) -> None:
    """Equal but for rounding: relative to the largest number of an array, which is a sum of up to some hundred."""
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max(initial=1))


def _loss(outputs) -> jax.Array:
    return sum(jnp.sum(jnp.sin(output)) for output in outputs)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 7, 8, 16, 40, 100])
def test_kernel_equals_the_plain_form(problem, indices, mask, channels, dtype, masked):
    operands, mask = _operands(problem, channels, dtype), mask if masked else None
    found = jax.jit(lambda *values: evaluate(problem, values, indices, mask))(*operands)

    _agree(found, evaluate_plainly(problem, operands, indices, mask), dtype)


def test_a_function_in_parts_gives_the_same(problem, indices, mask, monkeypatch):
    operands, derivative = _operands(problem, 20, "float64"), problem.polynomial.derivative((0, 1), (0, 1, 3))
    whole = source(derivative, "float64", 20)
    monkeypatch.setattr("mace_tp.kernels.source._LONGEST", 5)
    assert source(derivative, "float64", 20).count("noinline") > 3 > whole.count("noinline")
    build._Function.of.cache_clear()

    def gradient(form):
        return jax.jit(jax.grad(lambda *values: _loss(form(problem, values, indices, mask)), argnums=(0, 1, 3)))(*operands)

    _agree(gradient(evaluate), gradient(evaluate_plainly), "float64")
    build._Function.of.cache_clear()


@pytest.mark.parametrize("channels", [3, 64])
def test_first_and_second_derivatives_equal_those_of_the_plain_form(problem, indices, mask, channels):
    operands, directions = _operands(problem, channels, "float64"), _operands(problem, channels, "float64", seed=5)

    def slope(form):
        def first(*values: jax.Array) -> jax.Array:
            gradients = jax.grad(lambda *values: _loss(form(problem, values, indices, mask)), argnums=tuple(range(4)))(*values)
            return sum(map(jnp.vdot, gradients, directions))

        return jax.jit(jax.value_and_grad(first, argnums=tuple(range(4))))(*operands)

    _agree(slope(evaluate), slope(evaluate_plainly), "float64")


def test_gradients_of_gradients_are_differences_of_values(problem, indices):
    operands = tuple(0.3 * operand for operand in _operands(problem, 2, "float64"))

    # Differences of a step of 1e-6 are as good as this.
    check_grads(lambda *values: _loss(evaluate(problem, values, indices, None)), operands, order=2, modes=["rev"], rtol=1e-4)


def test_third_derivatives_equal_those_of_the_plain_form(problem, indices):
    u = _operands(problem, 2, "float64")

    def third(form):
        def first(x: jax.Array) -> jax.Array:
            return jnp.sum(jax.grad(lambda x: _loss(form(problem, (u[0], x, *u[2:]), indices, None)))(x) ** 2)

        return jax.grad(lambda x: jnp.sum(jax.grad(first)(x) ** 2))(u[1])

    _agree([third(evaluate) / 100], [third(evaluate_plainly) / 100], "float64")


def test_items_that_do_not_count_are_not_looked_at(problem, indices, mask):
    operands = _operands(problem, 4, "float64")
    spoiled = (*operands[:2], *(jnp.where(shape, values, jnp.nan) for shape, values in _by_item(mask, operands[2:])))

    found = evaluate(problem, spoiled, indices, mask)

    _agree(found, evaluate(problem, operands, indices, mask), "float64")
    assert not np.any(found[2][~mask]) and not np.any(found[3][~mask])


def _by_item(mask: jax.Array, operands: tuple[jax.Array, ...]):
    return [(mask[None, :, None], operands[0]), (mask[:, None], operands[1])]


def test_no_items_give_zeros(problem):
    empty = Problem(problem.polynomial, (ROWS[1], ROWS[0], 0, 0))
    operands = _operands(problem, 4, "float64")
    none = (operands[0], operands[1], operands[2][:, :0], operands[3][:0])
    outputs = evaluate(empty, none, (jnp.zeros(0, jnp.int32),) * 2, None)

    assert [output.shape for output in outputs] == [(2, 9, 4), (5, 1, 4), (0, 2, 4), (0, 2)]
    assert not any(np.any(output) for output in outputs)


def test_no_channels_give_nothing(problem, indices):
    operands = _operands(problem, 0, "float64")

    assert [output.size for output in evaluate(problem, operands, indices, None)] == [0, 0, 0, 2 * ITEMS]


def test_arrays_that_do_not_fit_are_an_error(problem, indices, mask):
    operands = _operands(problem, 4, "float64")
    for i, array in enumerate(operands):
        wrong = (*operands[:i], array[..., :1], *operands[i + 1 :])
        with pytest.raises(ValueError, match="an operand is float64"):
            evaluate(problem, wrong, indices, None)
    with pytest.raises(ValueError, match="different numbers of items"):
        evaluate(problem, operands, indices, mask[:5])
    with pytest.raises(ValueError, match="different numbers of items"):
        evaluate(problem, operands, (indices[0][:5], indices[1]), None)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_index_out_of_bounds_is_an_error(problem, indices, wrong):
    bad = indices[0].at[3].set(wrong)

    with pytest.raises(Exception, match="an index is out of bounds"):
        jax.block_until_ready(evaluate(problem, _operands(problem, 4, "float64"), (bad, indices[1]), None))


def test_several_models_at_once(problem, indices, mask):
    several = [_operands(problem, 5, "float64", seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *several)
    gradient = jax.grad(lambda values: _loss(evaluate(problem, values, indices, mask)))

    _agree(jax.jit(jax.vmap(gradient))(stacked), jax.tree.map(lambda *arrays: jnp.stack(arrays), *map(gradient, several)), "float64")


def test_result_is_the_same_to_the_last_bit(problem, indices, mask):
    operands = _operands(problem, 100, "float32")
    gradient = jax.jit(jax.grad(lambda *values: _loss(evaluate(problem, values, indices, mask)), argnums=(0, 1, 2, 3)))
    first = gradient(*operands)

    for _ in range(20):
        jax.tree.map(np.testing.assert_array_equal, gradient(*operands), first)


@pytest.mark.parametrize("channels", [7, 64])
def test_threads_that_share_a_few_rows_of_sums_give_the_same_each_time(channels):
    """Many items of few rows: every thread has sums of its own for all of them."""
    items = 300
    problem, indices = _problem(items), _indices(items)
    operands = _operands(problem, channels, "float64")

    def gradient(form):
        return jax.jit(jax.grad(lambda *values: _loss(form(problem, values, indices, None)), argnums=(0, 1, 2, 3)))

    compiled = gradient(evaluate)
    first = compiled(*operands)

    _agree(first, gradient(evaluate_plainly)(*operands), "float64")
    for _ in range(5):
        jax.tree.map(np.testing.assert_array_equal, compiled(*operands), first)


def test_only_what_is_asked_for_is_computed(problem, indices):
    """The gradient by one operand is not that by all with the rest thrown away."""
    operands = _operands(problem, 4, "float64")

    def of(argnums) -> int:
        gradient = jax.jit(jax.grad(lambda *values: _loss(evaluate(problem, values, indices, None)), argnums=argnums))
        return kernel_flops(gradient.trace(*operands).jaxpr.jaxpr)

    value = problem.polynomial.flops() * ITEMS * 4
    assert value < of(2) < of((0, 1, 2, 3))
