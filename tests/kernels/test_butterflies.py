"""A linear map as sums of a polynomial is the table, and takes fewer operations where the table is symmetric."""

import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.kernels.butterflies import linear_map
from mace_tp.kernels.evaluate import Problem, evaluate_plainly
from mace_tp.kernels.polynomial import Builder, Operand, Polynomial
from mace_tp.tensor_products.algebra.sphere import harmonics, quadrature


def _polynomial(table: np.ndarray) -> Polynomial:
    builder = Builder([Operand(table.shape[1])])
    results = linear_map(builder, table, builder.inputs[0])
    return builder.build([Operand(len(results))], [results])


def _as_table(polynomial: Polynomial) -> np.ndarray:
    """Results from each unit vector."""
    units = jnp.eye(polynomial.num_inputs)[:, :, None]
    return np.asarray(evaluate_plainly(Problem(polynomial, (len(units),)), (units,), (), None)[0][:, :, 0].T)


def _num_instructions(polynomial: Polynomial) -> int:
    """One for each term, except the first of a sum where that is a value by itself."""
    is_copied = [any(abs(term.constant) == 1 for term in terms) for terms in polynomial.sums]
    return polynomial.num_terms - sum(is_copied)


def _with_random_signs(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Few magnitudes and many zeros: rows and columns that are equal up to signs in every way."""
    return rng.choice([-2.0, -0.5, 0.0, 0.5, 2.0], size=(rows, columns)) * (rng.random((rows, columns)) < 0.6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (3, 7), (12, 12)])
def test_map_is_the_table(rows, columns, seed):
    rng = np.random.default_rng(seed)
    for table in (rng.normal(size=(rows, columns)), _with_random_signs(rng, rows, columns), np.zeros((rows, columns))):
        np.testing.assert_allclose(_as_table(_polynomial(table)), table, rtol=0, atol=1e-14)


def test_map_of_harmonics_is_their_table_in_fewer_operations():
    points = quadrature(10).points
    table = harmonics(points, 3)
    polynomial = _polynomial(table)

    np.testing.assert_allclose(_as_table(polynomial), table, rtol=0, atol=1e-12)
    num_entries = np.count_nonzero(np.abs(table) > 1e-12)
    assert _num_instructions(polynomial) < 0.37 * num_entries
    assert _num_instructions(_polynomial(table.T)) < 0.37 * num_entries


def test_hadamard_transform_is_the_fast_one():
    table = np.ones((1, 1))
    for _ in range(4):
        table = np.kron(table, [[1, 1], [1, -1]])
    for shuffled in (table, np.random.default_rng(0).permutation(table) * np.random.default_rng(1).choice([-1, 1], (1, 16))):
        polynomial = _polynomial(shuffled)
        assert _num_instructions(polynomial) == 4 * 16
        np.testing.assert_array_equal(_as_table(polynomial), shuffled)


def test_table_without_symmetry_is_summed_row_by_row():
    table = np.random.default_rng(0).normal(size=(5, 4))
    assert _num_instructions(_polynomial(table)) == table.size


def test_numbers_that_differ_by_rounding_are_one():
    table = np.array([[1.0, 1 / 3, 0.0, 0.7], [1.0, -1 / 3 + 1e-16, 1e-17, -0.7]])
    assert _num_instructions(_polynomial(table)) == 4  # two products, a sum, a difference
