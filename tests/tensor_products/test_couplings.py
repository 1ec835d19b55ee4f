"""Closed forms of fixed couplings against the tables of the products, and numbers of couplings against counts."""

import e3nn_jax as e3nn
import numpy as np
import pytest
from tensor_product_cases import CASES, build

from mace_tp.tensor_products.algebra.analysis import basis_couplings, basis_dof, interaction_dof, interaction_paths
from mace_tp.tensor_products.algebra.closed_forms import bracket_coupling, gaunt_coupling, matrix_coupling
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.fixed_product import FixedProduct
from mace_tp.tensor_products.gaunt import Gaunt
from mace_tp.tensor_products.spherical_grid import SphericalGrid
from mace_tp.tensor_products.testing.bilinear import table_is_the_couplings

FIXED = [case for case in CASES if isinstance(build(case.values[0]).interaction, FixedProduct) and "=" not in case.id]
BOTH_PARITIES = e3nn.Irreps("0e+0o+1o+1e+2e+2o+3o+3e")


@pytest.fixture(params=FIXED)
def product(request) -> FixedProduct:
    product = build(request.param).interaction
    # Matrices need a degree; a plan would choose it.
    return type(product)(degree=2) if product.name == "matrix" else product


def test_table_is_the_couplings_times_clebsch_gordan(product):
    table_is_the_couplings(product, BOTH_PARITIES)


@pytest.mark.slow
def test_pointwise_product_has_the_even_sums_and_the_bracket_the_odd_ones():
    for l1, l2 in np.ndindex(9, 9):
        for l3 in range(abs(l1 - l2), min(l1 + l2, 8) + 1):
            is_even = (l1 + l2 + l3) % 2 == 0
            assert (abs(gaunt_coupling(l1, l2, l3)) > 1e-3) == is_even
            # With a scalar there is no odd sum.
            assert (abs(bracket_coupling(l1, l2, l3)) > 1e-3) == (not is_even)


def test_matrices_of_degree_three_miss_one_triple():
    triples = [(l1, l2, l3) for l1, l2 in np.ndindex(7, 7) for l3 in range(abs(l1 - l2), min(l1 + l2, 6) + 1)]
    missing = {tuple(sorted(triple)) for triple in triples if abs(matrix_coupling(3, *triple)) < 1e-12}
    assert missing == {(3, 5, 5)}
    assert matrix_coupling(1, 1, 2, 3) == 0, "beyond the matrices"


@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_number_of_paths_and_degrees_of_freedom(l_max):
    """Xie et al. 2025: inputs 0 .. L of natural parity, outputs 0 .. 2L; `cg` has all even-sum paths of them, one product 4L+1 numbers."""
    inputs, outputs = e3nn.s2_irreps(l_max), e3nn.s2_irreps(2 * l_max)
    even_paths = (l_max + 1) * (l_max + 2) * (2 * l_max + 3) // 6
    reference = CG().interaction(inputs, inputs, outputs)
    assert len(interaction_paths(reference)) == interaction_dof(reference) == even_paths
    for product in (Gaunt(), SphericalGrid()):
        plan = product.interaction(inputs, inputs, outputs)
        assert set(interaction_paths(plan)) == set(interaction_paths(reference))
        assert interaction_dof(plan) == 4 * l_max + 1


@pytest.mark.parametrize("irreps_node, paths, dof", [("0e+1o", 10, [8, 10, 10]), ("0e+1o+2e", 17, [9, 17, 17])])
def test_rank_two_recovers_the_freedom_of_the_interaction(irreps_node, paths, dof):
    harmonics = e3nn.s2_irreps(3)
    assert interaction_dof(CG().interaction(e3nn.Irreps(irreps_node), harmonics, harmonics)) == paths
    for product in (Gaunt, SphericalGrid):
        assert [interaction_dof(product(rank).interaction(e3nn.Irreps(irreps_node), harmonics, harmonics)) for rank in (1, 2, 3)] == dof


# (l_max, order, output): independent symmetric couplings, and the sets of degrees that a pointwise power reaches.
@pytest.mark.parametrize(
    "l_max, order, out, couplings, multisets",
    [
        (3, 2, "0e", 4, 4), (3, 2, "1o", 3, 3), (3, 2, "2e", 5, 5), (3, 3, "0e", 8, 8), (3, 3, "1o", 12, 9), (3, 3, "2e", 14, 9),
        (3, 4, "0e", 23, 17), (2, 3, "0e", 5, 5), (2, 3, "1o", 5, 4), (2, 3, "2e", 6, 5), (2, 4, "0e", 9, 8), (2, 4, "1o", 9, 6),
        (2, 4, "2e", 13, 8),
    ],
)  # fmt: skip
def test_number_of_couplings_of_the_product_basis(l_max, order, out, couplings, multisets):
    harmonics, out = e3nn.s2_irreps(l_max), e3nn.Irreps(out)

    def of_the_order(plan) -> list:
        return [path for path in basis_couplings(plan) if len(path.factors) == order]

    assert len(of_the_order(CG().product_basis(harmonics, out, order))) == couplings
    grid = of_the_order(SphericalGrid().product_basis(harmonics, out, order))
    assert len({path.factors for path in grid}) == multisets


@pytest.mark.parametrize("rank, dof", [(1, 4), (2, 8)])
def test_degrees_of_freedom_of_scalars_of_order_three(rank, dof):
    plan = SphericalGrid(rank).product_basis(e3nn.s2_irreps(3), e3nn.Irreps("0e"), 3)
    higher = type(plan)(plan.sampler, plan.irreps_in, plan.irreps_out, plan.correlation, plan.rank, first_order=3)
    assert basis_dof(higher) == dof
