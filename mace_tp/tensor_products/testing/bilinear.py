"""Laws of the bilinear map."""

from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from mace_tp.tensor_products.algebra.analysis import bilinear_paths
from mace_tp.tensor_products.algebra.irreps import rows_of
from mace_tp.tensor_products.algebra.paths import path_coupling
from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan
from mace_tp.tensor_products.fixed_product import FixedProduct
from mace_tp.tensor_products.plans import BilinearPlan
from mace_tp.tensor_products.testing.arguments import (
    ROUNDING,
    ROUNDING_OF_TURNED,
    jitted,
    orthogonal_matrices,
    turned,
)


def bilinear_map_is_the_sum_of_paths_that_it_states(plan: BilinearPlan) -> None:
    features = _pair_of(plan)
    value = jitted(plan)(*features)

    assert value.shape == (plan.irreps_out.dim, 3) and bilinear_paths(plan)
    assert jnp.abs(value).max() > 0.1
    np.testing.assert_allclose(value, _sum_of_paths(plan, *features), atol=ROUNDING)


def bilinear_map_commutes_with_o3(plan: BilinearPlan) -> None:
    first, second = _pair_of(plan)
    for matrix in orthogonal_matrices():
        after = turned(np.asarray(jitted(plan)(first, second)), plan.irreps_out, matrix)
        before = jitted(plan)(turned(first, plan.irreps_1, matrix), turned(second, plan.irreps_2, matrix))
        np.testing.assert_allclose(before, after, atol=ROUNDING_OF_TURNED)


def bilinear_map_has_the_derivatives_of_its_values(plan: BilinearPlan) -> None:
    check_grads(jax.jit(plan.__call__), _pair_of(plan), order=2, modes=["rev"], rtol=1e-6)


def bilinear_map_keeps_the_dtype(plan: BilinearPlan) -> None:
    assert jitted(plan)(*(x.astype(np.float32) for x in _pair_of(plan))).dtype == np.float32


BILINEAR_LAWS: tuple[Callable[[BilinearPlan], None], ...] = (
    bilinear_map_is_the_sum_of_paths_that_it_states,
    bilinear_map_commutes_with_o3,
    bilinear_map_has_the_derivatives_of_its_values,
    bilinear_map_keeps_the_dtype,
)


def table_is_the_couplings(product: FixedProduct, irreps: e3nn.Irreps) -> None:
    """The table of a product with fixed couplings is the couplings times Clebsch-Gordan tensors."""
    table = product.table(irreps, irreps, irreps)
    expected = np.zeros_like(table)
    rows = list(zip([irrep.ir for irrep in irreps], irreps.slices()))
    for first, i in rows:
        for second, j in rows:
            for out, m in rows:
                if out in first * second:
                    expected[i, j, m] = product.coupling(first, second, out) * clebsch_gordan(first.l, second.l, out.l)
    np.testing.assert_allclose(table, expected, atol=1e-12 * np.abs(table).max())
    assert np.abs(table).max() > 0.1


def _pair_of(plan: BilinearPlan) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(plan.irreps_1.dim, 3)), rng.normal(size=(plan.irreps_2.dim, 3))


def _sum_of_paths(plan: BilinearPlan, first: np.ndarray, second: np.ndarray) -> jax.Array:
    """The product from its coefficients alone."""
    copies = [mul_ir.ir for mul_ir in plan.irreps_out for _ in range(mul_ir.mul)]
    values = []
    for out, row in zip(copies, plan.coefficients(), strict=True):
        value = jnp.zeros((out.dim, first.shape[1]))
        for path, coefficient in zip(plan.paths, row, strict=True):
            if path.out == out:
                factors = first[rows_of(plan.irreps_1)[path.node]], second[rows_of(plan.irreps_2)[path.edge]]
                value += coefficient * jnp.einsum("ijm,in,jn->mn", path_coupling(path), *factors)
            else:
                assert coefficient == 0
        values.append(value)
    return jnp.concatenate(values)
