"""Clebsch-Gordan tensor product: every path with its own weight. The reference for all others."""

import dataclasses
import functools
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.graph import EDGE_BLOCK
from mace_tp.tensor_products.base import InteractionPlan, Path, ProductBasisPlan, TensorProduct, require_reached
from mace_tp.tensor_products.edge_sums import gather_blocks, in_blocks, sum_outer_products
from mace_tp.tensor_products.irreps import rows_of
from mace_tp.tensor_products.symmetric_basis import clebsch_gordan, symmetric_basis
from mace_tp.tensor_products.table_map import table_map


@dataclasses.dataclass(frozen=True)
class CG(TensorProduct):
    """Clebsch-Gordan: a weight per path in the interaction, the reduced symmetric contraction in the product basis."""

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> "CGInteraction":
        return CGInteraction(irreps_node, irreps_edge, irreps_keep)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> "CGProductBasis":
        plan = CGProductBasis(irreps_in, irreps_out, correlation)
        require_reached("cg", plan)
        return plan


@dataclasses.dataclass(frozen=True)
class CGInteraction(InteractionPlan):
    """m_i = Σ_j w_path(r_ij) sqrt(2l3+1) C[l1, l2, l3] h_j[l1] Y_ij[l2] for every path, each channel by itself."""

    irreps_node: e3nn.Irreps
    irreps_edge: e3nn.Irreps
    irreps_keep: e3nn.Irreps

    @functools.cached_property
    def _paths(self) -> tuple[Path, ...]:
        paths = [
            Path(node.ir, edge.ir, out)
            for node in self.irreps_node
            for edge in self.irreps_edge
            for out in node.ir * edge.ir
            if out in self.irreps_keep
        ]
        return tuple(sorted(paths, key=lambda path: (path.out.l, path.out.p)))

    def paths(self) -> tuple[Path, ...]:
        """Sorted by output irrep, then by node and edge irrep: ACEsuit's order."""
        return self._paths

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return e3nn.Irreps([(1, path.out) for path in self._paths]).simplify()

    @property
    def num_weights(self) -> int:
        return len(self._paths)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """One copy of the output for every path."""
        return np.eye(len(weights)).reshape(len(weights), len(weights), *[1] * (weights.ndim - 1)) * weights

    def __call__(
        self,
        weights: Sequence[jax.Array] | jax.Array,
        node_feats: jax.Array,
        edge_attrs: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        sender_feats, harmonics = gather_blocks(node_feats, senders), in_blocks(edge_attrs)
        node_rows, edge_rows = rows_of(self.irreps_node), rows_of(self.irreps_edge)
        outputs = []
        for weight, path in zip(weights, self._paths, strict=True):
            weighted = sender_feats[:, :, node_rows[path.node]] * in_blocks(weight)[:, :, None]
            summed = sum_outer_products(harmonics[:, :, edge_rows[path.edge]], weighted, receivers, node_feats.shape[1])
            outputs.append(jnp.einsum("ijm,njik->mnk", path_coupling(path).astype(summed.dtype), summed))
        return jnp.concatenate(outputs)

    def flops(self, num_edges: int, num_nodes: int, channels: int) -> int:
        outer = sum(path.node.dim * (1 + 2 * path.edge.dim) for path in self._paths)
        coupling = sum(2 * path.node.dim * path.edge.dim * path.out.dim for path in self._paths)
        return (num_edges * outer + num_nodes * coupling) * channels

    def bytes(self, num_edges: int, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        # Gathered features are written once and read for every path; outer products per block, and per node.
        feats = self.irreps_node.dim + sum(1 + path.node.dim for path in self._paths)
        outer = sum(path.node.dim * path.edge.dim for path in self._paths)
        per_edge = feats * channels + self.irreps_edge.dim + 2
        per_node = (2 * outer + self.irreps_out.dim + self.irreps_node.dim) * channels
        return itemsize * (num_edges * per_edge + num_edges // EDGE_BLOCK * 2 * outer * channels + num_nodes * per_node)


def path_coupling(path: Path) -> np.ndarray:
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

    def reached(self) -> list[e3nn.Irrep]:
        orders = range(1, self.correlation + 1)
        return [irrep.ir for irrep in self.irreps_out if any(self.num_couplings(order, irrep.ir) for order in orders)]

    def num_couplings(self, order: int, irrep: e3nn.Irrep) -> int:
        return symmetric_basis(self.irreps_in, irrep, order).table.shape[0]

    @property
    def num_weights(self) -> int:
        return len(self.weight_scales)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """The weights are the coordinates."""
        return weights

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

    def flops(self, num_nodes: int, channels: int) -> int:
        monomials = sum(len(order.last) for order in self.orders[1:])
        tables = sum(2 * order.table.size for order in self.orders)
        weighted = sum(2 * len(order.table) for order in self.orders)
        return num_nodes * channels * (monomials + tables + weighted)

    def bytes(self, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        # Monomials are written, read by the table, and read as prefixes of the next order; coupled rows are written and read.
        intermediate = sum(3 * len(order.last) + 2 * len(order.table) for order in self.orders)
        per_node = self.irreps_in.dim + intermediate + self.num_weights + self.irreps_out.dim
        return itemsize * num_nodes * channels * per_node


@dataclasses.dataclass(frozen=True, eq=False)
class _Order:
    """Monomials of one order, each built from one of the order before, and what they couple to."""

    prefix: np.ndarray  # [monomials], int: position in the order before; empty for the first
    last: np.ndarray  # [monomials], int: component that the prefix is multiplied by
    table: np.ndarray  # [(irrep, coupling, m), monomials], float64
