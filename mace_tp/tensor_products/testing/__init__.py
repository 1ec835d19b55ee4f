"""The laws that every tensor product must satisfy, for the tests of this package and of packages that add products.

    import pytest
    from mace_tp.tensor_products.testing import check_tensor_product, with_examples

    @pytest.mark.parametrize("product", with_examples(MyProduct()), ids=str)
    def test_my_product(product):
        check_tensor_product(product)

A law is a function of a plan that raises AssertionError. The laws are tested in float64: set jax_enable_x64.
"""

import dataclasses

import e3nn_jax as e3nn
import jax

from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.fixed_product import DegreeWeighted
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan, ProductBasisPlan
from mace_tp.tensor_products.testing.bilinear import BILINEAR_LAWS, table_is_the_couplings
from mace_tp.tensor_products.testing.interaction import INTERACTION_LAWS
from mace_tp.tensor_products.testing.product_basis import PRODUCT_BASIS_LAWS

HARMONICS, HIDDEN, CORRELATION = e3nn.s2_irreps(2), e3nn.Irreps("0e+1o"), 3
# A model asks for more plans: the nodes of its first interaction and the outputs of its last product basis are scalars.
SCALARS = e3nn.Irreps("0e")
NODES = OUTPUTS = (SCALARS, HIDDEN)


def with_examples(product: TensorProduct) -> list[TensorProduct]:
    """The product, and the same with every example of every option."""
    options = [(option.name, value) for option in dataclasses.fields(product) for value in option.metadata.get("examples", ())]
    return [product, *(dataclasses.replace(product, **{name: value}) for name, value in options)]


def check_tensor_product(product: TensorProduct) -> None:
    """Hold all plans of a product to the laws.

    Raises:
        AssertionError: a law is broken.
        ValueError: jax computes in float32.
    """
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue] - jax declares it at run time
        raise ValueError('the laws are tested in float64: jax.config.update("jax_enable_x64", True)')
    equal_plans_are_equal_keys(product)
    for irreps_node in NODES:
        interaction = interaction_of(product, irreps_node)
        check_interaction(interaction)
        if isinstance(interaction, DegreeWeighted):
            table_is_the_couplings(interaction.product, HARMONICS)
    for irreps_out in OUTPUTS:
        check_product_basis(product_basis_of(product, irreps_out))
    check_bilinear(product.bilinear(HARMONICS, e3nn.Irreps("0e+1o+3o"), e3nn.s2_irreps(4)))


def interaction_of(product: TensorProduct, irreps_node: e3nn.Irreps) -> InteractionPlan:
    """An interaction with harmonics, which has the irreps that were asked for and makes no others."""
    plan = product.interaction(irreps_node, HARMONICS, HARMONICS)
    assert (plan.irreps_node, plan.irreps_edge) == (irreps_node, HARMONICS), "the plan has other factors than it was asked for"
    assert {mul_ir.ir for mul_ir in plan.irreps_out} <= {mul_ir.ir for mul_ir in HARMONICS}, "irreps_out has irreps that are not kept"
    return plan


def product_basis_of(product: TensorProduct, irreps_out: e3nn.Irreps) -> ProductBasisPlan:
    """A product basis of harmonics, which has the irreps and the correlation that were asked for."""
    plan = product.product_basis(HARMONICS, irreps_out, CORRELATION)
    assert (plan.irreps_in, plan.correlation) == (HARMONICS, CORRELATION), "the plan has other factors than it was asked for"
    assert plan.irreps_out == irreps_out, f"irreps_out is {plan.irreps_out} instead of {irreps_out}"
    return plan


def equal_plans_are_equal_keys(product: TensorProduct) -> None:
    """jax compiles a program once for equal plans: they must compare and hash by what they were made from."""
    for make in (
        lambda: product.interaction(HIDDEN, HARMONICS, HARMONICS),
        lambda: product.product_basis(HARMONICS, HIDDEN, 2),
    ):
        assert make() == make() and hash(make()) == hash(make())


def check_interaction(plan: InteractionPlan) -> None:
    """Hold an interaction to INTERACTION_LAWS."""
    for law in INTERACTION_LAWS:
        law(plan)


def check_product_basis(plan: ProductBasisPlan) -> None:
    """Hold a product basis to PRODUCT_BASIS_LAWS."""
    for law in PRODUCT_BASIS_LAWS:
        law(plan)


def check_bilinear(plan: BilinearPlan) -> None:
    """Hold a bilinear map to BILINEAR_LAWS."""
    for law in BILINEAR_LAWS:
        law(plan)
