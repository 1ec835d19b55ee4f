"""Linear maps by compiled code are those that jax computes, with all their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiler import needs_compiler

from mace_tp.kernels.linear import ChannelMap, IrrepMap, linear, linear_plainly

pytestmark = needs_compiler
NODES = 29
# Copies of one irrep, one copy of another, and rows on both sides that belong to nothing; the output in another order.
MAP = ChannelMap((IrrepMap(0, 2, 1, 4, 0.5), IrrepMap(3, 3, 3, 0, 2.0)), rows_in=12, rows_out=6)


def _arguments(elements: int, channels_in: int, channels_out: int, dtype: str = "float64") -> tuple:
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(MAP.rows_in, NODES, channels_in)), dtype)
    matrices = tuple(jnp.asarray(rng.normal(size=(elements, irrep.copies, channels_in, channels_out)), dtype) for irrep in MAP.irreps)
    return features, matrices, jnp.asarray(rng.integers(0, elements, NODES), jnp.int32)


def _agree(found, expected, tolerance: float = 1e-12) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max(initial=1))


def test_plain_form_is_what_the_formula_says():
    features, matrices, species = _arguments(3, 4, 5)
    expected = np.zeros((MAP.rows_out, NODES, 5))
    for irrep, matrix in zip(MAP.irreps, matrices, strict=True):
        for copy in range(irrep.copies):
            for m in range(irrep.dim):
                for n in range(NODES):
                    row = features[irrep.first_in + copy * irrep.dim + m, n]
                    expected[irrep.first_out + m, n] += irrep.scale * np.asarray(row) @ np.asarray(matrix[species[n], copy])

    np.testing.assert_allclose(linear_plainly(MAP, features, matrices, species), expected, atol=1e-13)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 1), (7, 13), (16, 8), (64, 64), (100, 70)])
@pytest.mark.parametrize("elements", [1, 3, 40])
def test_value_equals_the_plain_form(elements, channels_in, channels_out):
    arguments = _arguments(elements, channels_in, channels_out)

    _agree(linear(MAP, *arguments), linear_plainly(MAP, *arguments))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("elements", [1, 3])
@pytest.mark.parametrize(("channels_in", "channels_out"), [(5, 5), (64, 64), (21, 37)])
def test_first_and_second_derivatives_equal_those_of_the_plain_form(elements, channels_in, channels_out, dtype):
    features, matrices, species = _arguments(elements, channels_in, channels_out, dtype)
    matrices = tuple(matrix / channels_in for matrix in matrices)  # sines of large numbers would multiply the rounding of float32

    def slopes(form):
        def first(features, matrices):
            gradients = jax.grad(lambda x, w: jnp.sum(jnp.sin(form(MAP, x, w, species))), argnums=(0, 1))(features, matrices)
            return sum(jnp.sum(jnp.cos(gradient)) for gradient in jax.tree.leaves(gradients))

        return jax.jit(jax.value_and_grad(first, argnums=(0, 1)))(features, matrices)

    _agree(slopes(linear), slopes(linear_plainly), 1e-12 if dtype == "float64" else 1e-5)


def test_float32_is_the_same_to_rounding():
    arguments = _arguments(3, 64, 64, "float32")

    _agree(linear(MAP, *arguments), linear_plainly(MAP, *arguments), 1e-5)


def test_element_that_is_not_there_is_an_error():
    features, matrices, species = _arguments(3, 4, 4)

    with pytest.raises(Exception, match="an element is out of bounds"):
        jax.block_until_ready(linear(MAP, features, matrices, species.at[2].set(3)))


def test_several_models_at_once():
    features, matrices, species = _arguments(3, 4, 4)
    stacked = jax.tree.map(lambda array: jnp.stack([array, 2 * array]), (features, matrices))
    gradient = jax.grad(lambda arguments: jnp.sum(jnp.sin(linear(MAP, *arguments, species))))

    one_by_one = [gradient(jax.tree.map(lambda array, i=i: array[i], stacked)) for i in range(2)]

    _agree(jax.vmap(gradient)(stacked), jax.tree.map(lambda *two: jnp.stack(two), *one_by_one))
