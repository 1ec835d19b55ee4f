"""Laws of the product basis."""

import functools
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from mace_tp.kernels.evaluate import Problem, evaluate_plainly
from mace_tp.tensor_products.algebra.analysis import basis_couplings, basis_dof, reached_irreps
from mace_tp.tensor_products.algebra.symmetric_basis import symmetric_couplings
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.plans import ProductBasisPlan
from mace_tp.tensor_products.testing.arguments import (
    CHANNELS,
    DIFFERENCES,
    ROUNDING,
    ROUNDING_OF_TURNED,
    SPECIES,
    assert_equal,
    derivatives,
    jitted,
    nodes_of,
    orthogonal_matrices,
    turned,
)


def product_basis_commutes_with_o3(plan: ProductBasisPlan) -> None:
    weights, feats = nodes_of(plan)
    for matrix in orthogonal_matrices():
        after = turned(np.array(_contract(plan, weights, feats)), plan.irreps_out, matrix)
        before = _contract(plan, weights, turned(feats, plan.irreps_in, matrix))
        assert np.abs(after).max(axis=(1, 2)).min() > 1e-2, "an output that is zero is equivariant too"
        np.testing.assert_allclose(before, after, atol=ROUNDING_OF_TURNED)


def product_basis_has_the_shape_that_it_states(plan: ProductBasisPlan) -> None:
    assert _contract(plan, *nodes_of(plan)).shape == (plan.irreps_out.dim, len(SPECIES), CHANNELS)
    assert len(plan.weight_scales) == plan.num_weights and min(plan.weight_scales) > 0


def product_basis_is_a_polynomial_without_a_constant(plan: ProductBasisPlan) -> None:
    """Its order is the correlation."""
    weights, feats = nodes_of(plan)
    values = np.stack([_contract(plan, weights, scale * feats) for scale in range(plan.correlation + 2)])
    assert np.abs(values[0]).max() == 0
    # The finite difference of one order more vanishes, that of the correlation itself does not.
    assert np.abs(np.diff(values, plan.correlation, axis=0)).max() > 1e-2
    np.testing.assert_allclose(np.diff(values, plan.correlation + 1, axis=0), 0, atol=ROUNDING * np.abs(values).max())


def product_basis_takes_the_weights_of_the_element(plan: ProductBasisPlan) -> None:
    weights, feats = nodes_of(plan)
    other = weights + (np.arange(3) == 1)[:, None]
    difference = np.abs(_contract(plan, weights, feats) - _contract(plan, other, feats)).max(axis=(0, 2))
    assert (difference[SPECIES != 1] == 0).all() and difference[SPECIES == 1].min() > 1e-2


def product_basis_uses_every_weight(plan: ProductBasisPlan) -> None:
    weights, feats = nodes_of(plan)
    here = _contract(plan, weights, feats)
    for i in range(plan.num_weights):
        there = _contract(plan, weights * (np.arange(len(weights)) != i)[:, None, None], feats)
        assert np.abs(there - here).max() > 1e-3, f"weight {i} changes nothing"


def product_basis_keeps_the_dtype(plan: ProductBasisPlan) -> None:
    for dtype in (np.float32, np.float64):
        assert _contract(plan, *(jnp.asarray(array, dtype) for array in nodes_of(plan))).dtype == dtype


def product_basis_has_the_derivatives_of_its_values(plan: ProductBasisPlan) -> None:
    """First and second reverse derivatives, as training takes them, against central differences."""
    check_grads(jax.jit(lambda weights, feats: plan(weights, feats, jnp.asarray(SPECIES))), nodes_of(plan), **DIFFERENCES)


def product_basis_is_cg_with_its_coordinates(plan: ProductBasisPlan) -> None:
    """Value, gradient, and gradient of the gradient."""
    rng, species = np.random.default_rng(0), jnp.array([0, 1, 1])
    weights, feats = rng.normal(size=(plan.num_weights, 2, 1)), rng.normal(size=(plan.irreps_in.dim, 3, 1))
    coordinates = plan.coefficients(weights)

    assert coordinates.shape == (len(symmetric_couplings(plan.irreps_in, plan.irreps_out, plan.correlation)), 2, 1)
    reference = _cg_product_basis(plan.irreps_in, plan.irreps_out, plan.correlation)
    assert_equal(
        derivatives(lambda feats: plan(jnp.asarray(weights), feats, species), (feats,)), derivatives(reference, (feats,), (coordinates,))
    )


def product_basis_states_what_it_has(plan: ProductBasisPlan) -> None:
    assert 0 < basis_dof(plan) <= len(basis_couplings(plan))
    assert reached_irreps(plan) == {irrep.ir for irrep in plan.irreps_out}


def product_basis_is_its_polynomial(plan: ProductBasisPlan) -> None:
    """If it has one, the function that the compiled kernel evaluates."""
    (weights, feats), form = nodes_of(plan), plan.polynomial()
    if form is None:
        return
    operands = form.weights(jnp.asarray(weights)), jnp.asarray(feats)
    [value] = evaluate_plainly(Problem(form.polynomial, (len(SPECIES),)), operands, (jnp.asarray(SPECIES),), None)
    expected = _contract(plan, weights, feats)
    np.testing.assert_allclose(value, expected, atol=ROUNDING * np.abs(expected).max())


PRODUCT_BASIS_LAWS: tuple[Callable[[ProductBasisPlan], None], ...] = (
    product_basis_commutes_with_o3,
    product_basis_has_the_shape_that_it_states,
    product_basis_is_a_polynomial_without_a_constant,
    product_basis_takes_the_weights_of_the_element,
    product_basis_uses_every_weight,
    product_basis_keeps_the_dtype,
    product_basis_has_the_derivatives_of_its_values,
    product_basis_is_cg_with_its_coordinates,
    product_basis_states_what_it_has,
    product_basis_is_its_polynomial,
)


def _contract(plan: ProductBasisPlan, weights: np.ndarray | jax.Array, feats: np.ndarray | jax.Array) -> jax.Array:
    return jitted(plan)(weights, feats, SPECIES)


@functools.cache
def _cg_product_basis(irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> Callable[..., jax.Array]:
    """(coordinates, features) → product basis of `cg`; the same function for every product that is compared with it."""
    plan, species = CG().product_basis(irreps_in, irreps_out, correlation), jnp.array([0, 1, 1])
    return lambda coordinates, feats: plan(coordinates, feats, species)
