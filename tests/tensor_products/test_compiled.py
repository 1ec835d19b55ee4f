"""The compiled form of a tensor product is the same function of the same weights, in values and in derivatives."""

import functools

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiler import needs_compiler

from mace_tp.kernels.compiler import NoKernel
from mace_tp.kernels.evaluate import Problem, evaluate, evaluate_plainly
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import create_model, with_kernel
from mace_tp.tensor_products import compiled as module
from mace_tp.tensor_products.algebra.analysis import basis_couplings, basis_dof, interaction_dof, interaction_paths, reached_irreps
from mace_tp.tensor_products.algebra.symmetric_basis import symmetric_basis
from mace_tp.tensor_products.cg import CG, CGProductBasis
from mace_tp.tensor_products.compiled import Compiled, CompiledInteraction, CompiledProductBasis, describe_kernel
from mace_tp.tensor_products.cuequivariance import CuequivarianceProductBasis
from mace_tp.tensor_products.ops.sum_of_plans import SumOfPlans
from mace_tp.tensor_products.registry import TensorProductConfig, parse_product

pytestmark = needs_compiler
HIDDEN = e3nn.Irreps("0e+1o")
# Products whose interaction is a sparse polynomial, with those whose product basis is one, too.
INTERACTIONS = ["cg", "gaunt", "spherical_grid:rank=2", "matrix", "hybrid"]
POINTWISE = ["spherical_grid", "gaunt", "gaunt:rank=2", "vector_grid"]
BASES = ["cg", "hybrid", "matrix", "matrix:degree=2", *POINTWISE]


def _arguments(plan, batch, l_max: int, channels: int, dtype: str) -> list[jax.Array]:
    rng, num_harmonics = np.random.default_rng(0), (l_max + 1) ** 2
    shapes = (
        (batch.num_pairs, plan.num_weights, channels),
        (plan.irreps_node.dim, batch.num_nodes, channels),
        (batch.num_edges, num_harmonics),
    )
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def _derivatives(function, arguments: tuple[jax.Array, ...], wanted: tuple[int, ...]):
    """The value, first derivatives, and second ones along a direction."""
    rng = np.random.default_rng(1)
    directions = [jnp.asarray(rng.normal(size=arguments[i].shape), arguments[i].dtype) for i in wanted]

    def slope(*arguments: jax.Array) -> tuple[jax.Array, tuple]:
        value, pull_back = jax.vjp(function, *arguments)
        gradients = pull_back(jnp.sin(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape) + 0.1 * value)
        return sum(jnp.vdot(direction, gradients[i]) for direction, i in zip(directions, wanted, strict=True)), (value, gradients)

    second, first = jax.jit(jax.grad(slope, argnums=wanted, has_aux=True))(*arguments)
    return first, second


def _agree(found, expected, dtype: str) -> None:
    """Equal but for rounding: relative to the largest number of an array."""
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max(initial=1e-3))


def _compare_interactions(product, batch, hidden: str, l_max: int, channels: int, dtype: str) -> None:
    harmonics = e3nn.s2_irreps(l_max)
    plain, compiled = (form.interaction(e3nn.Irreps(hidden), harmonics, harmonics) for form in (product, Compiled(product)))
    assert isinstance(compiled, CompiledInteraction)
    is_real = (batch.pair_edges[:, 0] != batch.pair_edges[:, 1])[:, None, None]

    def of_real_edges(plan, weights: jax.Array, feats: jax.Array, attributes: jax.Array) -> jax.Array:
        return plan(jnp.where(is_real, weights, 0), feats, jnp.where(batch.edge_mask[:, None], attributes, 0), batch)

    arguments = _arguments(plain, batch, l_max, channels, dtype)
    found, expected = (_derivatives(functools.partial(of_real_edges, plan), arguments, (0, 1, 2)) for plan in (compiled, plain))
    _agree(found, expected, dtype)


def _compare_bases(product, hidden: str, l_max: int, correlation: int, channels: int, dtype: str) -> None:
    harmonics, rng = e3nn.s2_irreps(l_max), np.random.default_rng(0)
    plain, compiled = (form.product_basis(harmonics, e3nn.Irreps(hidden), correlation) for form in (product, Compiled(product)))
    weights = jnp.asarray(rng.normal(size=(plain.num_weights, 3, channels)), dtype)
    feats = jnp.asarray(rng.normal(size=(harmonics.dim, 9, channels)), dtype)
    species = jnp.asarray([0, 1, 1, 0, 2, 2, 0, 1, 0], jnp.int32)
    found, expected = (_derivatives(lambda w, x, plan=plan: plan(w, x, species), (weights, feats), (0, 1)) for plan in (compiled, plain))
    _agree(found, expected, dtype)


@pytest.mark.parametrize("name", INTERACTIONS)
def test_interaction_is_the_same_function(name, batch):
    _compare_interactions(parse_product(name), jax.tree.map(jnp.asarray, batch), "0e+1o", 2, 3, "float64")


@pytest.mark.parametrize("name", BASES)
def test_product_basis_is_the_same_function(name):
    _compare_bases(parse_product(name), "0e+1o", 2, 3, 3, "float64")


@pytest.mark.parametrize("name", ["spherical_grid:rank=2", "matrix"])
def test_product_basis_of_pairs_is_the_same_function(name):
    _compare_bases(parse_product(name), "0e+2e", 2, 2, 3, "float64")


@pytest.mark.parametrize(("hidden", "l_max"), [("0e+1o+1e", 3), ("0e+1o+2o", 2)])
def test_product_basis_with_pseudo_tensors_is_the_same_function(hidden, l_max):
    _compare_bases(parse_product("vector_grid"), hidden, l_max, 3, 3, "float64")


@pytest.mark.parametrize("channels", [1, 7, 32, 100])
def test_float32_is_the_same_to_rounding(channels, batch):
    _compare_interactions(CG(), jax.tree.map(jnp.asarray, batch), "0e+1o", 1, channels, "float32")
    _compare_bases(CG(), "0e+1o", 1, 2, channels, "float32")


@pytest.mark.parametrize("name", ["spherical_grid", "matrix", "hybrid"])
def test_product_basis_in_float32_is_the_same_to_rounding(name):
    _compare_bases(parse_product(name), "0e+1o", 2, 3, 20, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 7, 32, 100])
@pytest.mark.parametrize("name", ["cg", "spherical_grid:rank=2"])
def test_interaction_of_any_number_of_channels_is_the_same_function(name, channels, dtype, batch):
    _compare_interactions(parse_product(name), jax.tree.map(jnp.asarray, batch), "0e+1o", 1, channels, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 7, 32, 100])
@pytest.mark.parametrize("name", ["cg", "spherical_grid", "matrix"])
def test_product_basis_of_any_number_of_channels_is_the_same_function(name, channels, dtype):
    _compare_bases(parse_product(name), "0e+1o", 2, 2, channels, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "l_max"), [("0e", 0), ("0e+1o", 1), ("0e+1o+2e", 2), ("0e+1o+1e", 3), ("0e+1o", 4), ("0e+1o+2e+3o", 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_interaction_is_the_same_function_at_all_degrees(hidden, l_max, dtype, batch):
    _compare_interactions(CG(), jax.tree.map(jnp.asarray, batch), hidden, l_max, 5, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
@pytest.mark.parametrize(("hidden", "l_max"), [("0e", 0), ("0e+1o", 1), ("0e+1o+2e", 2), ("0e+1o", 3), ("0e", 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_product_basis_is_the_same_function_at_all_degrees_and_orders(hidden, l_max, correlation, dtype):
    if (l_max, correlation) == (4, 4):  # XLA takes minutes to compile its form
        _compare_with_tables(hidden, l_max, correlation, dtype)
    else:
        _compare_bases(CG(), hidden, l_max, correlation, 5, dtype)


def _compare_with_tables(hidden: str, l_max: int, correlation: int, dtype: str) -> None:
    """The value with monomials times tables, the gradient with the plain form of the polynomial, one operation after the other."""
    harmonics, rng, nodes = e3nn.s2_irreps(l_max), np.random.default_rng(0), 4
    plan = CG().product_basis(harmonics, e3nn.Irreps(hidden), correlation)
    weights, feats = rng.normal(size=(plan.num_weights, 2, 3)), rng.normal(size=(harmonics.dim, nodes, 3))
    species, expected, row = np.array([0, 1, 1, 0]), 0.0, 0
    for order in range(1, correlation + 1):
        [basis] = [symmetric_basis(harmonics, irrep.ir, order) for irrep in e3nn.Irreps(hidden)]
        monomials = np.prod(feats[basis.monomials], axis=1)
        for table in basis.table:
            expected = expected + weights[row][species] * np.einsum("dm,mnc->dnc", table, monomials)
            row += 1
    form = plan.polynomial()
    problem = Problem(form.polynomial, (nodes,))
    operands = form.weights(jnp.asarray(weights, dtype)), jnp.asarray(feats, dtype)
    indices = (jnp.asarray(species, jnp.int32),)

    def gradient(form):
        return jax.grad(lambda *operands: jnp.sum(form(problem, operands, indices, None)[0] ** 2), argnums=(0, 1))(*operands)

    _agree(evaluate(problem, operands, indices, None), (expected,), dtype)
    found = gradient(evaluate)
    with jax.disable_jit():
        _agree(found, gradient(evaluate_plainly), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BASES, "spherical_grid:rank=2"])
@pytest.mark.parametrize(
    ("hidden", "l_max", "correlation"), [("0e+1o", 1, 1), ("0e+1o+2e", 3, 3), ("0e+1o", 3, 2), ("0e+1o", 2, 4), ("0e", 4, 3)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_product_basis_is_the_same_function_at_all_degrees_and_orders(name, hidden, l_max, correlation, dtype):
    _compare_bases(parse_product(name), hidden, l_max, correlation, 5, dtype)


def test_products_that_are_one_function_run_the_same_code():
    harmonics = e3nn.s2_irreps(2)
    first, second = (
        parse_product(name).product_basis(harmonics, HIDDEN, 3).polynomial().polynomial for name in ("gaunt", "spherical_grid")
    )
    assert first.key == second.key


def test_plans_without_a_polynomial_stay_as_they_are(monkeypatch):
    harmonics = e3nn.s2_irreps(2)
    plan = CuequivarianceProductBasis(harmonics, HIDDEN, 2)

    for other in (plan, SumOfPlans((CGProductBasis(harmonics, HIDDEN, 2), plan))):
        monkeypatch.setattr(CG, "product_basis", lambda *_, other=other: other)
        assert Compiled(CG()).product_basis(harmonics, HIDDEN, 2) is other
    assert Compiled(CG()).bilinear(harmonics, harmonics, harmonics) == CG().bilinear(harmonics, harmonics, harmonics)


@pytest.mark.parametrize("name", ["cg", "hybrid", "spherical_grid"])
def test_model_predicts_the_same_with_both_kernels(name, batch, architecture, statistics):
    products = TensorProductConfig(name, name)
    model = create_model(architecture, products, statistics, np.dtype(np.float64), seed=0)
    plain = with_kernel(model, "xla")
    assert plain.graphdef != model.graphdef

    found, expected = (jax.jit(make_predict(m.graphdef))(m.params, batch) for m in (model, plain))

    for name in ("energy", "forces", "stress"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-11)


def test_without_a_compiler_xla_computes_and_one_line_says_so(batch, architecture, statistics, monkeypatch, caplog):
    def fail(*_):
        raise NoKernel("no C++ compiler is found (c++)")

    for builder in ("function_name", "target_name", "kernel_version"):
        monkeypatch.setattr(module, builder, fail)
    module.tell_once.cache_clear()
    model = create_model(architecture, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)
    text = jax.jit(make_predict(model.graphdef)).lower(model.params, batch).as_text()

    assert "evaluate_float64" not in text and "mace_tp_" not in text
    assert [record.message for record in caplog.records] == ["kernel: xla, which is slower: no C++ compiler is found (c++)"]
    assert describe_kernel("auto") == "xla, which is slower: no C++ compiler is found (c++)"


def test_kernel_is_named_and_can_be_turned_off():
    assert describe_kernel("auto").startswith("compiled for ")
    assert describe_kernel("xla") == "xla"


@pytest.mark.parametrize("name", ["cg", "hybrid", "spherical_grid:rank=2"])
def test_compiled_plans_say_what_the_plain_ones_say(name):
    harmonics, product = e3nn.s2_irreps(2), parse_product(name)
    plain = product.interaction(HIDDEN, harmonics, harmonics), product.product_basis(harmonics, HIDDEN, 3)
    forms = CompiledInteraction(plain[0]), CompiledProductBasis(plain[1])
    for one, other in zip(forms, plain, strict=True):
        assert (one.irreps_out, one.num_weights) == (other.irreps_out, other.num_weights)
    assert (interaction_paths(forms[0]), interaction_dof(forms[0])) == (interaction_paths(plain[0]), interaction_dof(plain[0]))
    assert (basis_couplings(forms[1]), basis_dof(forms[1])) == (basis_couplings(plain[1]), basis_dof(plain[1]))
    assert forms[1].weight_scales == plain[1].weight_scales and reached_irreps(forms[1]) == reached_irreps(plain[1])
