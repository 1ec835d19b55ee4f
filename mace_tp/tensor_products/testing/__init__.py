"""The laws that every tensor product must satisfy, for the tests of this package and of packages that add products.

    from mace_tp.tensor_products.testing import check_tensor_product

    def test_my_product():
        check_tensor_product(MyProduct())

A law is a function of a plan that raises AssertionError. The laws are tested in float64: set jax_enable_x64.
"""

import e3nn_jax as e3nn
import jax

from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.fixed_product import DegreeWeighted
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan, ProductBasisPlan
from mace_tp.tensor_products.testing.bilinear import BILINEAR_LAWS, table_is_the_couplings
from mace_tp.tensor_products.testing.interaction import INTERACTION_LAWS
from mace_tp.tensor_products.testing.product_basis import PRODUCT_BASIS_LAWS

HARMONICS, HIDDEN, CORRELATION = e3nn.s2_irreps(2), e3nn.Irreps("0e+1o"), 3


def check_tensor_product(product: TensorProduct) -> None:
    """Hold all plans of a product to the laws.

    Raises:
        AssertionError: a law is broken.
        ValueError: jax computes in float32.
    """
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue] - jax declares it at run time
        raise ValueError('the laws are tested in float64: jax.config.update("jax_enable_x64", True)')
    equal_plans_are_equal_keys(product)
    interaction = product.interaction(HIDDEN, HARMONICS, HARMONICS)
    check_interaction(interaction)
    if isinstance(interaction, DegreeWeighted):
        table_is_the_couplings(interaction.product, HARMONICS)
    check_product_basis(product.product_basis(HARMONICS, HIDDEN, CORRELATION))
    check_bilinear(product.bilinear(HARMONICS, e3nn.Irreps("0e+1o+3o"), e3nn.s2_irreps(4)))


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
