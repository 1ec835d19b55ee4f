"""A bilinear product whose couplings are fixed: what is needed of it to plan an interaction."""

import abc
from collections.abc import Sequence

import e3nn_jax as e3nn
import numpy as np

from mace_tp.tensor_products.base import Path, UnreachableIrrep
from mace_tp.tensor_products.cg import CGInteraction

# A coupling smaller than this is zero: couplings are sums of a few terms of order one.
ZERO = 1e-10


class FixedCouplings(abc.ABC):
    """A bilinear map without weights of its own, twice: by its own construction, and by its couplings in closed form."""

    name: str  # for messages

    @abc.abstractmethod
    def table(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
        """The product of component i and component j, component m of it [i, j, m], float64, as the product itself is defined."""

    @abc.abstractmethod
    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        """Factor of the table relative to C[l1, l2, l3] of Frobenius norm one."""


def coupled_paths(
    product: FixedCouplings, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps
) -> tuple[Path, ...]:  # fmt: skip
    """The paths that the product couples, in `cg`'s order."""
    paths = CGInteraction(irreps_node, irreps_edge, irreps_keep).paths()
    return tuple(path for path in paths if abs(product.coupling(path.node, path.edge, path.out)) > ZERO)


def outputs_of(paths: Sequence[Path]) -> list[e3nn.Irrep]:
    return list(dict.fromkeys(path.out for path in paths))


def output_scale(product: FixedCouplings, paths: Sequence[Path], out: e3nn.Irrep) -> float:
    """What makes the variance of an output irrep one, Σ g² / (2l3+1) over the paths that reach it."""
    return sum(product.coupling(path.node, path.edge, path.out) ** 2 / out.dim for path in paths if path.out == out) ** -0.5


def path_strengths(product: FixedCouplings, paths: Sequence[Path]) -> np.ndarray:
    """Couplings relative to the component-normalized paths sqrt(2l3+1) C of `cg`, with outputs of unit variance."""
    couplings = [product.coupling(path.node, path.edge, path.out) / np.sqrt(path.out.dim) for path in paths]
    return np.array([output_scale(product, paths, path.out) * coupling for path, coupling in zip(paths, couplings)])


def require_use(
    product: FixedCouplings, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps, paths: Sequence[Path]
) -> None:  # fmt: skip
    """Raise UnreachableIrrep for the first irrep of the nodes that takes no part."""
    used = {path.node for path in paths}
    for irrep in irreps_node:
        if irrep.ir not in used:
            reason = f"{product.name} couples {irrep.ir} and harmonics ({irreps_edge}) to none of {irreps_keep}"
            raise UnreachableIrrep(f"model.hidden_irreps: in the interaction {reason}; drop it")
