"""Clebsch-Gordan tensor product: every path with its own weight. The reference for all others."""

import dataclasses
import functools
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.errors import InputError
from mace_tp.graph import EDGE_BLOCK
from mace_tp.tensor_products.base import InteractionPlan, ProductBasisPlan, TensorProduct
from mace_tp.tensor_products.symmetric_basis import clebsch_gordan, symmetric_basis
from mace_tp.tensor_products.table_map import table_map


@dataclasses.dataclass(frozen=True)
class CG(TensorProduct):
    """Clebsch-Gordan: a weight per path in the interaction, the reduced symmetric contraction in the product basis."""

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> "CGInteraction":
        return CGInteraction(irreps_node, irreps_edge, irreps_keep)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> "CGProductBasis":
        return CGProductBasis(irreps_in, irreps_out, correlation)


@dataclasses.dataclass(frozen=True)
class Path:
    """One coupling node ⊗ edge → out, with the first component of each factor."""

    node: e3nn.Irrep
    edge: e3nn.Irrep
    out: e3nn.Irrep
    node_start: int
    edge_start: int


@dataclasses.dataclass(frozen=True)
class CGInteraction(InteractionPlan):
    """m_i = Σ_j w_path(r_ij) sqrt(2l3+1) C[l1, l2, l3] h_j[l1] Y_ij[l2] for every path, each channel by itself.

    The sum over a block of edges comes before the coupling: per path and block, Y^T (w h) is one small matrix product over
    the edges, and the coupling then runs over nodes, of which there are many times fewer than edges.
    """

    irreps_node: e3nn.Irreps
    irreps_edge: e3nn.Irreps
    irreps_keep: e3nn.Irreps

    @functools.cached_property
    def paths(self) -> tuple[Path, ...]:
        """Paths sorted by output irrep, then by node and edge irrep: ACEsuit's order."""
        paths = [
            Path(node.ir, edge.ir, out, node_slice.start, edge_slice.start)
            for node, node_slice in zip(self.irreps_node, self.irreps_node.slices())
            for edge, edge_slice in zip(self.irreps_edge, self.irreps_edge.slices())
            for out in node.ir * edge.ir
            if out in self.irreps_keep
        ]
        return tuple(sorted(paths, key=lambda path: (path.out.l, path.out.p)))

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return e3nn.Irreps([(1, path.out) for path in self.paths]).simplify()

    @property
    def num_weights(self) -> int:
        return len(self.paths)

    def __call__(
        self,
        weights: Sequence[jax.Array] | jax.Array,
        node_feats: jax.Array,
        edge_attrs: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        num_nodes, channels = node_feats.shape[1:]
        sender_feats = node_feats.transpose(1, 0, 2)[senders].reshape(-1, EDGE_BLOCK, *node_feats.shape[::2])
        harmonics = edge_attrs.reshape(-1, EDGE_BLOCK, edge_attrs.shape[-1])
        block_receivers = receivers[::EDGE_BLOCK]
        outputs = []
        for weight, path in zip(weights, self.paths, strict=True):
            feats = sender_feats[:, :, path.node_start : path.node_start + path.node.dim]
            weighted = feats * weight.reshape(-1, EDGE_BLOCK, 1, channels)
            y = harmonics[:, :, path.edge_start : path.edge_start + path.edge.dim]
            summed = jnp.einsum("bej,bex->bjx", y, weighted.reshape(*weighted.shape[:2], -1))
            summed = jax.ops.segment_sum(summed.reshape(summed.shape[0], -1), block_receivers, num_nodes, indices_are_sorted=True)
            summed = summed.reshape(num_nodes, path.edge.dim, path.node.dim, channels)
            outputs.append(jnp.einsum("ijm,njik->mnk", _coupling(path).astype(summed.dtype), summed))
        return jnp.concatenate(outputs)


def _coupling(path: Path) -> np.ndarray:
    """C[l1, l2, l3] in component normalisation: an output component has unit variance for unit-variance inputs."""
    return np.sqrt(path.out.dim) * clebsch_gordan(path.node.l, path.edge.l, path.out.l)


@dataclasses.dataclass(frozen=True)
class CGProductBasis(ProductBasisPlan):
    """B_l = Σ_ν Σ_η W[Z, ν, l, η] U_{ν l η} · A^⊗ν over the reduced symmetric basis (Batatia et al. 2022, eq. 10).

    Evaluated as monomials of A times a table, one matrix product per order, then the element's weights.
    Weights are ordered by order ν, then output irrep, then coupling η.
    """

    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    correlation: int

    def __post_init__(self) -> None:
        for irrep in self.irreps_out:
            if not any(self.num_couplings(order, irrep.ir) for order in range(1, self.correlation + 1)):
                factors = f"no product of up to {self.correlation} factors of {self.irreps_in} reaches {irrep.ir}"
                raise InputError(f"model.hidden_irreps: {factors}; drop it, or raise model.l_max or model.correlation")

    def num_couplings(self, order: int, irrep: e3nn.Irrep) -> int:
        return symmetric_basis(self.irreps_in, irrep, order).table.shape[0]

    @property
    def num_weights(self) -> int:
        return len(self.weight_scales)

    @functools.cached_property
    def weight_scales(self) -> tuple[float, ...]:
        """ACEsuit's start: 1 / (number of its couplings), which seen in an orthonormal basis is the same for every coupling."""
        scales: list[float] = []
        for order in range(1, self.correlation + 1):
            for irrep in self.irreps_out:
                basis = symmetric_basis(self.irreps_in, irrep.ir, order)
                scales += [1 / max(basis.num_trees, 1)] * basis.table.shape[0]
        return tuple(scales)

    @functools.cached_property
    def orders(self) -> tuple["_Order", ...]:
        """Monomials and coupling tables of the orders 1 .. correlation."""
        needed = np.zeros((0, self.correlation + 1), np.int32)
        orders: list[_Order] = []
        for order in range(self.correlation, 0, -1):
            bases = [symmetric_basis(self.irreps_in, irrep.ir, order) for irrep in self.irreps_out]
            # A monomial of the next order is one of this order, its first ν factors, times one component.
            monomials, position = np.unique(
                np.concatenate([needed[:, :order], *(basis.monomials for basis in bases)]), axis=0, return_inverse=True
            )
            position = np.split(position.reshape(-1), np.cumsum([len(needed), *(len(basis.monomials) for basis in bases)])[:-1])
            if orders:
                orders[-1] = dataclasses.replace(orders[-1], prefix=position[0])
            rows = [np.zeros((basis.table.shape[0] * basis.table.shape[1], len(monomials))) for basis in bases]
            for row, column, basis in zip(rows, position[1:], bases, strict=True):
                row[:, column] = basis.table.reshape(row.shape[0], len(basis.monomials))
            orders.append(_Order(prefix=np.zeros(0, np.int64), last=monomials[:, -1], table=np.concatenate(rows)))
            needed = monomials
        return tuple(reversed(orders))

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        node_weights = weights[:, species]
        outputs = [jnp.zeros((irrep.ir.dim, *node_feats.shape[1:]), node_feats.dtype) for irrep in self.irreps_out]
        weight = 0
        powers = node_feats
        for nu, order in enumerate(self.orders, start=1):
            powers = powers[order.prefix] * node_feats[order.last] if nu > 1 else node_feats[order.last]
            coupled = table_map(order.table)(powers)
            row = 0
            for i, irrep in enumerate(self.irreps_out):
                count, dim = self.num_couplings(nu, irrep.ir), irrep.ir.dim
                couplings = coupled[row : row + count * dim].reshape(count, dim, *coupled.shape[1:])
                outputs[i] += jnp.sum(couplings * node_weights[weight : weight + count, None], axis=0)
                row, weight = row + count * dim, weight + count
        return jnp.concatenate(outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class _Order:
    """Monomials of one order, each built from one of the order before, and what they couple to."""

    prefix: np.ndarray  # [monomials], int: position in the order before; empty for the first
    last: np.ndarray  # [monomials], int: component that the prefix is multiplied by
    table: np.ndarray  # [(irrep, coupling, m), monomials], float64
