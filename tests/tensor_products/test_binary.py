"""Laws that the bilinear map of every tensor product obeys: it is the sum of Clebsch-Gordan paths that it says it is."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from tensor_product_cases import CASES, build

from mace_tp.errors import InputError
from mace_tp.tensor_products.algebra.irreps import rows_of
from mace_tp.tensor_products.base import UnreachableIrrep
from mace_tp.tensor_products.cg import CG, path_coupling
from mace_tp.tensor_products.gaunt import Gaunt
from mace_tp.tensor_products.matrix import Matrix
from mace_tp.tensor_products.registry import tensor_product_names
from mace_tp.tensor_products.spherical_grid import SphericalGrid
from mace_tp.tensor_products.vector_grid import VectorGrid

FIRST, SECOND = e3nn.s2_irreps(2), e3nn.Irreps("0e+1o+3o")
# The rank is a number of weights, of which a bilinear map has none.
WITHOUT_RANK = [case for case in CASES if "rank" not in case.id]
BOTH_PARITIES = e3nn.Irreps("0e+0o+1o+1e+2e+2o+3o+3e+4e+4o")


@pytest.fixture(scope="module", params=WITHOUT_RANK)
def product(request):
    return build(request.param).interaction


@pytest.fixture(params=["natural", "both parities"])
def plan(request, product):
    keep = e3nn.s2_irreps(4) if request.param == "natural" else BOTH_PARITIES
    return product.binary(FIRST, SECOND, keep)


@pytest.fixture
def features() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(FIRST.dim, 3)), rng.normal(size=(SECOND.dim, 3))


def _sum_of_paths(plan, first: jax.Array, second: jax.Array) -> jax.Array:
    """The product from its coefficients alone."""
    copies = [mul_ir.ir for mul_ir in plan.irreps_out for _ in range(mul_ir.mul)]
    values = []
    for out, row in zip(copies, plan.coefficients(), strict=True):
        value = jnp.zeros((out.dim, first.shape[1]))
        for path, coefficient in zip(plan.paths(), row, strict=True):
            if path.out == out:
                factors = first[rows_of(plan.irreps_1)[path.node]], second[rows_of(plan.irreps_2)[path.edge]]
                value += coefficient * jnp.einsum("ijm,in,jn->mn", path_coupling(path), *factors)
            else:
                assert coefficient == 0
        values.append(value)
    return jnp.concatenate(values)


def test_it_is_the_sum_of_paths_that_it_says(plan, features):
    value = jax.jit(plan.__call__)(*features)

    assert value.shape == (plan.irreps_out.dim, 3)
    assert jnp.abs(value).max() > 0.1
    np.testing.assert_allclose(value, _sum_of_paths(plan, *features), atol=1e-11)


def test_it_commutes_with_o3(plan, features, matrix):
    def turned(x, irreps):
        return np.array(irreps.D_from_matrix(matrix)) @ x

    after = turned(np.asarray(plan(*features)), plan.irreps_out)

    np.testing.assert_allclose(plan(turned(features[0], FIRST), turned(features[1], SECOND)), after, atol=1e-10)


def test_its_derivatives_are_those_of_its_values(plan, features):
    check_grads(jax.jit(plan.__call__), features, order=2, modes=["rev"], rtol=1e-6)


def test_it_keeps_the_dtype(plan, features):
    assert plan(*(x.astype(np.float32) for x in features)).dtype == np.float32


def test_operations_and_bytes_are_counted_per_entry(plan):
    assert plan.flops(20) == 20 * plan.flops(1) > 0
    assert plan.bytes(20) == 20 * plan.bytes(1) > 0
    assert plan.bytes(1, itemsize=8) == 2 * plan.bytes(1)


@pytest.mark.parametrize("name", sorted(set(tensor_product_names()) - {"cuequivariance"}))
def test_a_product_of_vectors_by_hand(name):
    """1o × 1o → 0e: proportional to the scalar product, for every tensor product."""
    plan = build({"interaction": name}).interaction.binary(e3nn.Irreps("1o"), e3nn.Irreps("1o"), e3nn.Irreps("0e"))
    x, y = np.array([[1.0], [2.0], [3.0]]), np.array([[-1.0], [0.5], [4.0]])

    assert abs(plan(x, y)[0, 0] / (x.T @ y)[0, 0]) == pytest.approx(abs(plan.coefficients()[0, 0]) / 3**0.5)


def test_operations_of_two_vectors_by_hand():
    """1o × 1o → 0e, counted on paper."""
    vector, scalar = e3nn.Irreps("1o"), e3nn.Irreps("0e")
    counts = {CG(): 9 + 2 * 9 * 1}  # the outer product, a row of a table
    points = 6  # of Lebedev's rule for degree 2: the corners of an octahedron
    counts[SphericalGrid()] = points * (2 * 3 + 2 * 3 + 1 + 2 * 1)
    torus = 3 * 3  # θ and φ: one step more than the product's degree, which is 2
    counts[Gaunt()] = torus * (2 * 3 + 2 * 3 + 1 + 2 * 1)
    counts[VectorGrid()] = counts[SphericalGrid()]
    # side 3: two embeddings of 3 in 9, two matrix products of 27 additions and multiplications, their sum, a row of nine
    counts[Matrix()] = 2 * 2 * 27 + 2 * 2 * 27 + 9 + 2 * 9

    assert {product: product.binary(vector, vector, scalar).flops(1) for product in counts} == counts


def test_a_rank_is_refused():
    with pytest.raises(InputError, match="^rank 2 of spherical_grid: a sum of products"):
        SphericalGrid(rank=2).binary(FIRST, SECOND, FIRST)


@pytest.mark.parametrize("product", [Gaunt(), SphericalGrid()], ids=["gaunt", "spherical_grid"])
def test_the_cross_product_is_refused_by_products_of_functions(product):
    with pytest.raises(UnreachableIrrep, match="^(gaunt|spherical_grid) couples 1x1o and 1x1o to none of 1x1e$"):
        product.binary(e3nn.Irreps("1o"), e3nn.Irreps("1o"), e3nn.Irreps("1e"))


def _number_of_paths(l_max: int, parity: str) -> int:
    if parity == "all":
        return (l_max + 1) * (2 * l_max**2 + 4 * l_max + 3) // 3
    return (l_max + 1) * (l_max + 2) * (2 * l_max + 3) // 6


@pytest.mark.parametrize("parity", ["natural", "all"])
@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_degrees_of_freedom_are_those_of_the_closed_forms(l_max, parity):
    """0..L × 0..L → 0..2L: every path for `cg`, a factor for every degree but two for a product without path weights."""
    harmonics = e3nn.s2_irreps(l_max)
    keep = e3nn.s2_irreps(2 * l_max)
    if parity == "all":
        keep = (keep + e3nn.Irreps([(1, (l, -((-1) ** l))) for l in range(2 * l_max + 1)])).regroup()

    assert CG().binary(harmonics, harmonics, keep).dof() == _number_of_paths(l_max, parity)
    for product in (Gaunt(), SphericalGrid()):
        assert product.binary(harmonics, harmonics, keep).dof() == 4 * l_max + 1
        assert len(product.binary(harmonics, harmonics, keep).paths()) == _number_of_paths(l_max, "natural")
