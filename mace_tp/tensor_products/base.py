"""Interface of a tensor product: the operations that MACE needs at its two sites, and the bare bilinear map."""

import abc
import dataclasses
from collections.abc import Collection
from typing import ClassVar

import e3nn_jax as e3nn
import numpy as np

from mace_tp.errors import InputError
from mace_tp.tensor_products.ops.powers import ChainPowers
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan, ProductBasisPlan


class UnreachableIrrep(InputError):
    """A tensor product cannot make or cannot use one of the hidden irreps; another product may."""


@dataclasses.dataclass(frozen=True)
class TensorProduct(abc.ABC):
    """One way to multiply equivariant features. Subclasses are frozen dataclasses whose fields are the options.

    The metadata of an option hold `examples`: values other than the default with which the tests of the laws also run.
    A subclass has to provide `interaction`. The rest follows from the coefficients of the interaction's plan at unit weights.
    """

    name: ClassVar[str]  # for messages

    @abc.abstractmethod
    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        """Plan for node features (multiplicity one) times harmonics; outputs other than `irreps_keep` are dropped.

        Raises:
            UnreachableIrrep: no coupling takes an irrep of the nodes to any of `irreps_keep`.
        """

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        """Plan for all orders 1 .. correlation of `irreps_in` (multiplicity one) that reach `irreps_out`.

        The default is the powers of the bilinear map, one after another: x, x·x, (x·x)·x, ...

        Raises:
            UnreachableIrrep: no order reaches an irrep of `irreps_out`.
        """
        plan = ChainPowers(self, irreps_in, irreps_out, correlation)
        require_reached(self.name, plan, plan.reached)
        return plan

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BilinearPlan:
        """Plan for the product of two features (multiplicity one); outputs other than `irreps_keep` are dropped.

        The default is the product of the interaction at unit weights.

        Raises:
            UnreachableIrrep: every coupling to `irreps_keep` is zero.
        """
        plan = self.interaction(irreps_1, irreps_2, irreps_keep)
        coefficients = plan.coefficients(np.ones(plan.num_weights))
        if not coefficients.any():
            raise uncoupled(self.name, irreps_1, irreps_2, irreps_keep)
        return BilinearPlan(irreps_1, irreps_2, plan.irreps_out, tuple(map(tuple, coefficients.tolist())))

    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        """Factor of the bilinear map between three irreps relative to C[l1, l2, l3] of Frobenius norm one.

        The default adds up the copies that `bilinear` makes of the output.
        """
        try:
            plan = self.bilinear(*(e3nn.Irreps([(1, irrep)]) for irrep in (irrep_1, irrep_2, irrep_out)))
        except UnreachableIrrep:
            return 0.0
        return float(plan.coefficients().sum() * np.sqrt(irrep_out.dim))

    def forms(self) -> "dict[str, TensorProduct]":
        """Execution forms, by name, among which a training chooses by measurement; empty if there is only one.

        All forms compute the same function of the same weights.
        """
        return {}

    def packages(self) -> tuple[str, ...]:
        """Optional packages on whose versions the product's speed depends."""
        return ()

    def require_packages(self) -> None:  # noqa: B027 - most need none
        """Check, before anything is planned, that the product can compute on this device.

        Raises:
            InputError: an optional package that it needs on this device is missing, or cannot be loaded.
        """


def require_reached(name: str, plan: ProductBasisPlan, reached: Collection[e3nn.Irrep]) -> None:
    """Raise UnreachableIrrep for the first irrep of the output that no order of the plan reaches.

    Args:
        name: of the product.
        plan: of its product basis.
        reached: the irreps that some order reaches.
    """
    for irrep in plan.irreps_out:
        if irrep.ir not in reached:
            reason = f"no product of up to {plan.correlation} factors of {plan.irreps_in} reaches {irrep.ir} with {name}"
            raise UnreachableIrrep(f"model.hidden_irreps: {reason}; drop it, or raise model.l_max or model.correlation")


def uncoupled(name: str, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> UnreachableIrrep:
    """The error for a bilinear map that is zero."""
    return UnreachableIrrep(f"{name} couples {irreps_1} and {irreps_2} to none of {irreps_keep}")
