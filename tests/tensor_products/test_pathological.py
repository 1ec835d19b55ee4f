"""The corners: nothing but scalars, no powers, one channel, and irreps that a product cannot make."""

import dataclasses
import sys

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensor_product_cases import CASES, build

from mace_tp.errors import InputError
from mace_tp.graph import displaced
from mace_tp.model.architecture import Architecture
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import create_model
from mace_tp.tensor_products.base import UnreachableIrrep
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.matrix import Matrix
from mace_tp.tensor_products.registry import TensorProductConfig, TensorProducts, build_tensor_products, tensor_product_names

SCALAR = e3nn.Irreps("0e")
SPECIES = np.array([0, 1, 0])


@pytest.fixture(params=CASES)
def products(request) -> TensorProducts:
    return build(request.param)


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_scalars_alone(products, correlation):
    """With l_max 0 every product is a polynomial of one number."""
    plan = products.product_basis.product_basis(SCALAR, SCALAR, correlation)
    rng = np.random.default_rng(0)
    weights, feats = rng.normal(size=(plan.num_weights, 2, 1)), rng.normal(size=(1, 3, 1))
    coordinates = plan.coefficients(weights)[:, SPECIES]
    expected = sum(coordinates[i] * feats ** (i + 1) for i in range(correlation))
    np.testing.assert_allclose(plan(weights, feats, SPECIES), expected, atol=1e-12)


def test_scalar_messages_alone(products, make_edges):
    plan = products.interaction.interaction(SCALAR, SCALAR, SCALAR)
    edges = make_edges(plan.num_weights, SCALAR, SCALAR, channels=1)
    message = plan(edges.weights, edges.node_feats, edges.edge_attrs, edges.batch)
    terms = plan.coefficients(np.moveaxis(edges.weights, 1, 0))[0, 0] * edges.node_feats[0, edges.batch.senders] * edges.edge_attrs
    expected = np.zeros((4, 1))
    np.add.at(expected, edges.batch.receivers, terms)
    np.testing.assert_allclose(message[0], expected, atol=1e-12)


def test_first_order_is_the_features_times_a_weight(products):
    harmonics, hidden = e3nn.s2_irreps(3), e3nn.Irreps("0e+1o")
    plan = products.product_basis.product_basis(harmonics, hidden, 1)
    weights, feats = jnp.ones((plan.num_weights, 2, 1)), np.random.default_rng(0).normal(size=(16, 3, 1))
    scale = plan.coefficients(np.ones((plan.num_weights, 1)))
    np.testing.assert_allclose(plan(weights, feats, SPECIES), np.repeat(scale, [1, 3], axis=0)[:, None] * feats[:4], atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("l_max, correlation", [(0, 1), (1, 1)])
def test_whole_model_of_one_channel(make_model, make_batch, molecule, architecture, case, l_max, correlation):
    smallest = dataclasses.replace(
        architecture, l_max=l_max, correlation=correlation, num_channels=1, hidden_irreps="0e+1o" if l_max else "0e", radial_mlp=[4]
    )
    graphdef, params = make_model(smallest, tensor_product=TensorProductConfig(**case))
    predict, batch = jax.jit(make_predict(graphdef)), make_batch(molecule)
    forces = np.asarray(predict(params, batch).forces)
    assert np.abs(forces).max() > 1e-6
    step = 1e-4 * forces / np.linalg.norm(forces)
    there, back = (predict(params, displaced(batch, sign * step)).energy[0] for sign in (1, -1))
    np.testing.assert_allclose((there - back) / 2, -np.sum(forces * step), rtol=1e-4)


@pytest.mark.parametrize("irrep, l_max, correlation", [("3o", 1, 2), ("0o", 2, 3), ("1e", 3, 2)])
def test_irrep_out_of_reach_is_named(products, irrep, l_max, correlation):
    with pytest.raises(UnreachableIrrep, match=rf"^model.hidden_irreps: no product of up to {correlation} factors .* reaches {irrep} with"):
        products.product_basis.product_basis(e3nn.s2_irreps(l_max), e3nn.Irreps(f"0e+{irrep}"), correlation)


def test_node_irrep_without_a_path_is_named():
    for name in ("gaunt", "spherical_grid"):  # which have no couplings of odd degree sum
        product = build_tensor_products(TensorProductConfig(name, name)).interaction
        with pytest.raises(UnreachableIrrep, match=rf"^model.hidden_irreps: in the interaction {name} couples 1e and .* to none of"):
            product.interaction(e3nn.Irreps("0e+1o+1e"), e3nn.s2_irreps(3), e3nn.s2_irreps(3))


@pytest.mark.parametrize("interaction, product_basis", [("gaunt", "gaunt"), ("gaunt", "cg"), ("cg", "matrix"), ("cg", "hybrid")])
def test_model_with_pseudo_tensors_says_which_products_can(statistics, interaction, product_basis):
    architecture = Architecture(hidden_irreps="0e+1o+1e", l_max=2, num_channels=2, radial_mlp=[4])
    with pytest.raises(InputError, match=r"1e .*; tensor products that can: ") as error:
        create_model(architecture, TensorProductConfig(interaction, product_basis), statistics, np.dtype(np.float64), seed=0)

    named = str(error.value).partition("can: ")[2].split(", ")
    assert {"cg", "vector_grid"} <= set(named) and not {interaction, product_basis} & set(named) - {"cg"}
    for name in named:
        create_model(architecture, TensorProductConfig(name, name), statistics, np.dtype(np.float64), seed=0)


def test_model_that_no_product_can_make_says_so(statistics):
    architecture = Architecture(hidden_irreps="0e+3o", l_max=1, correlation=2, num_channels=2, radial_mlp=[4])
    with pytest.raises(InputError, match="reaches 3o with cg; .* tensor products that can: none$"):
        create_model(architecture, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)


@pytest.mark.parametrize("degree, is_enough", [(0, False), (1, False), (2, True), (3, True)])
def test_matrices_must_hold_all_irreps(degree, is_enough):
    harmonics, hidden = e3nn.s2_irreps(3), e3nn.Irreps("0e+1o")
    if is_enough:
        assert Matrix(degree).product_basis(harmonics, hidden, 2).degree == degree
        return
    message = rf"degree {degree} of matrix is too small: .* l = 3, which needs a degree of at least 2"
    with pytest.raises(InputError, match=message):
        Matrix(degree).product_basis(harmonics, hidden, 2)
    with pytest.raises(InputError, match=message):
        Matrix(degree).interaction(hidden, harmonics, harmonics)


@pytest.mark.parametrize("degree", [-1, 1.5, "two", True])
def test_degree_must_be_a_whole_number(degree):
    with pytest.raises(InputError, match="degree of matrix must be a whole number of at least 0, or null, got"):
        build_tensor_products(TensorProductConfig({"name": "matrix", "degree": degree}, "cg"))


@pytest.mark.parametrize("rank", [0, -1, 1.5, "two", True])
@pytest.mark.parametrize("name", ["gaunt", "spherical_grid"])
def test_rank_must_be_a_positive_whole_number(name, rank):
    with pytest.raises(InputError, match=f"rank of {name} must be a whole number of at least 1, got"):
        build_tensor_products(TensorProductConfig({"name": name, "rank": rank}, name))


def test_missing_cuequivariance_is_one_line_and_hides_no_other_product(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuequivariance", None)
    assert "cuequivariance" in tensor_product_names()
    product = build_tensor_products(TensorProductConfig("cuequivariance", "cuequivariance")).interaction
    with pytest.raises(InputError, match=r"not installed; in the clone of mace-tp: pip install -e '\.\[cuequivariance\]'$"):
        product.interaction(SCALAR, SCALAR, SCALAR)
    assert CG().interaction(SCALAR, SCALAR, SCALAR).num_weights == 1
