"""The radial layers are functions of the length, with derivatives of any order by it and by their matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.nn.embedding import Pairs, radial_embedding
from mace_tp.nn.mlp import normalized_silu, radial_layers

LENGTHS = np.linspace(0.4, 3.6, 7)


def _embedding(lengths: jax.Array):
    return radial_embedding(Pairs(lengths, (), jnp.full_like(lengths, 1.5)), 4.0, 5, 5, "agnesi")


def _layers(matrices: tuple[jax.Array, ...], lengths: jax.Array) -> jax.Array:
    radial = _embedding(lengths)
    return radial_layers(matrices, radial.lengths, radial.values, radial.slopes)


def _plain_layers(matrices: tuple[jax.Array, ...], lengths: jax.Array) -> jax.Array:
    values = _embedding(lengths).values
    for matrix in matrices:
        values = normalized_silu(values @ matrix)
    return values


def _matrices() -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=shape)) for shape in ((5, 6), (6, 6), (6, 4)))


def test_slopes_of_the_embedding_are_its_derivatives():
    radial, step = _embedding(jnp.asarray(LENGTHS)), 1e-6

    above, below = (_embedding(jnp.asarray(LENGTHS + shift)).values for shift in (step, -step))

    np.testing.assert_allclose(radial.slopes, (above - below) / (2 * step), rtol=0, atol=1e-8)


# The energy, its gradient by the lengths (forces), and the gradient of a function of both (training, by matrices; Hessian, by lengths).
@pytest.mark.parametrize("wanted", [0, 1], ids=["matrices", "lengths"])
def test_derivatives_are_those_of_the_layers_one_by_one(wanted):
    def loss(form):
        def energy(matrices, lengths):
            return jnp.sum(jnp.sin(form(matrices, lengths)))

        def of_both(matrices, lengths):
            value, slopes = jax.value_and_grad(energy, argnums=1)(matrices, lengths)
            return value**2 + jnp.sum(slopes**3)

        return jax.value_and_grad(of_both, argnums=wanted)

    found, expected = (jax.jit(loss(form))(_matrices(), jnp.asarray(LENGTHS)) for form in (_layers, _plain_layers))

    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11), found, expected)


def test_without_forces_no_slopes_are_computed():
    text = jax.jit(jax.grad(lambda matrices: jnp.sum(_layers(matrices, jnp.asarray(LENGTHS))))).lower(_matrices()).as_text()

    assert f"tensor<{2 * len(LENGTHS)}x" not in text
