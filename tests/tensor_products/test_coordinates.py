"""Every plan computes what it says: it equals `cg` run with the Clebsch-Gordan coordinates that it reports."""

import e3nn_jax as e3nn
import numpy as np
import pytest
from tensor_product_cases import CASES, build

from mace_tp.tensor_products.base import TensorProduct, UnreachableIrrep
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.plans import InteractionPlan
from mace_tp.tensor_products.testing.interaction import interaction_is_cg_with_its_coordinates
from mace_tp.tensor_products.testing.product_basis import product_basis_is_cg_with_its_coordinates

# Rounding of sums over some hundred terms of order one.
TOLERANCE = 1e-11
# `cg` is what the others are compared with.
OTHERS = [case for case in CASES if case.id != "cg"]
SPECIES = np.array([0, 1, 1])


@pytest.fixture(params=OTHERS)
def products(request):
    return build(request.param)


def _richest_plan(product: TensorProduct, harmonics: e3nn.Irreps) -> InteractionPlan:
    """With pseudo-tensors among the node features, where the product can use them."""
    try:
        return product.interaction(e3nn.Irreps("0e+1o+1e+2e"), harmonics, harmonics)
    except UnreachableIrrep as error:
        assert "1e" in str(error)
        return product.interaction(e3nn.Irreps("0e+1o+2e"), harmonics, harmonics)


@pytest.mark.parametrize("l_max", [1, 2, *(pytest.param(l_max, marks=pytest.mark.slow) for l_max in (3, 4))])
def test_interaction_is_cg_with_its_coordinates(products, l_max):
    plan = _richest_plan(products.interaction, e3nn.s2_irreps(l_max))
    interaction_is_cg_with_its_coordinates(plan)


ORDERS = [
    pytest.param(l_max, correlation, marks=[pytest.mark.slow] if l_max * correlation > 6 else [])
    for l_max in (1, 2, 3)
    for correlation in (1, 2, 3, 4)
]


@pytest.mark.parametrize("l_max, correlation", ORDERS)
def test_product_basis_is_cg_with_its_coordinates(products, l_max, correlation):
    harmonics = e3nn.s2_irreps(l_max)
    hidden = e3nn.Irreps("0e+1o" if (l_max, correlation) in [(1, 1), (3, 4)] else "0e+1o+2e")
    product_basis_is_cg_with_its_coordinates(products.product_basis.product_basis(harmonics, hidden, correlation))


@pytest.mark.parametrize("case", [case for case in CASES if "rank" not in case.id])
def test_every_weight_belongs_to_a_vector_of_size_one(case):
    """As `cg`'s do, so that all products start and train at the same scale. With a rank above one the weights multiply each other."""
    plan = build(case).product_basis.product_basis(e3nn.s2_irreps(3), e3nn.Irreps("0e+1o"), 3)
    vectors = plan.coefficients(np.eye(plan.num_weights))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("hidden", ["0e+1o+1e", "0e+2o"])
def test_pseudo_tensors_are_cg_with_their_coordinates(products, hidden):
    harmonics, hidden = e3nn.s2_irreps(2), e3nn.Irreps(hidden)
    try:
        plan = products.product_basis.product_basis(harmonics, hidden, 3)
    except UnreachableIrrep as error:
        assert f"reaches {hidden[-1].ir}" in str(error)
        return
    reference = CG().product_basis(harmonics, hidden, 3)
    rng = np.random.default_rng(0)
    weights, feats = rng.normal(size=(plan.num_weights, 2, 1)), rng.normal(size=(harmonics.dim, 3, 1))

    values = plan(weights, feats, SPECIES)

    assert np.abs(values[-hidden[-1].ir.dim :]).max() > 1e-2
    np.testing.assert_allclose(values, reference(plan.coefficients(weights), feats, SPECIES), atol=TOLERANCE * np.abs(values).max())


def test_pseudo_tensors_are_within_reach_of_some_products():
    able = []
    for case in CASES:
        try:
            build(case.values[0]).product_basis.product_basis(e3nn.s2_irreps(2), e3nn.Irreps("0e+1o+1e"), 3)
            able.append(case.id)
        except UnreachableIrrep:
            continue
    assert {"cg", "vector_grid"} <= set(able) and not {"gaunt", "spherical_grid", "matrix"} & set(able)
