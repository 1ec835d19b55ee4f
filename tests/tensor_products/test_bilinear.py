"""Laws that the bilinear map of every tensor product obeys: it is the sum of Clebsch-Gordan paths that it says it is."""

import e3nn_jax as e3nn
import numpy as np
import pytest
from tensor_product_cases import CASES, build

from mace_tp.errors import InputError
from mace_tp.tensor_products.algebra.analysis import bilinear_dof, bilinear_paths
from mace_tp.tensor_products.base import UnreachableIrrep
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.gaunt import Gaunt
from mace_tp.tensor_products.registry import own_product_names
from mace_tp.tensor_products.spherical_grid import SphericalGrid
from mace_tp.tensor_products.testing.bilinear import BILINEAR_LAWS

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
    return product.bilinear(FIRST, SECOND, keep)


@pytest.mark.parametrize("law", BILINEAR_LAWS, ids=lambda law: law.__name__)
def test_bilinear_map(law, plan):
    law(plan)


@pytest.mark.parametrize("name", sorted(set(own_product_names()) - {"cuequivariance"}))
def test_a_product_of_vectors_by_hand(name):
    """1o × 1o → 0e: proportional to the scalar product, for every tensor product."""
    plan = build({"interaction": name}).interaction.bilinear(e3nn.Irreps("1o"), e3nn.Irreps("1o"), e3nn.Irreps("0e"))
    x, y = np.array([[1.0], [2.0], [3.0]]), np.array([[-1.0], [0.5], [4.0]])

    assert abs(plan(x, y)[0, 0] / (x.T @ y)[0, 0]) == pytest.approx(abs(plan.coefficients()[0, 0]) / 3**0.5)


def test_a_rank_is_refused():
    with pytest.raises(InputError, match="^rank 2 of spherical_grid: a sum of products"):
        SphericalGrid(rank=2).bilinear(FIRST, SECOND, FIRST)


@pytest.mark.parametrize("product", [Gaunt(), SphericalGrid()], ids=["gaunt", "spherical_grid"])
def test_the_cross_product_is_refused_by_products_of_functions(product):
    with pytest.raises(UnreachableIrrep, match="^(gaunt|spherical_grid) couples 1x1o and 1x1o to none of 1x1e$"):
        product.bilinear(e3nn.Irreps("1o"), e3nn.Irreps("1o"), e3nn.Irreps("1e"))


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

    assert bilinear_dof(CG().bilinear(harmonics, harmonics, keep)) == _number_of_paths(l_max, parity)
    for product in (Gaunt(), SphericalGrid()):
        assert bilinear_dof(product.bilinear(harmonics, harmonics, keep)) == 4 * l_max + 1
        assert len(bilinear_paths(product.bilinear(harmonics, harmonics, keep))) == _number_of_paths(l_max, "natural")
