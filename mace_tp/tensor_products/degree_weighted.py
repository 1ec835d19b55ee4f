"""The interaction of a fixed product with radial weights for the degrees of its two factors."""

import dataclasses
import functools
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.graph import EDGE_BLOCK
from mace_tp.tensor_products.base import InteractionPlan, Path
from mace_tp.tensor_products.edge_sums import gather_blocks, in_blocks, rows_of, sum_outer_products
from mace_tp.tensor_products.fixed_couplings import (
    ZERO,
    FixedCouplings,
    coupled_paths,
    output_scale,
    outputs_of,
    path_strengths,
    require_use,
)


@dataclasses.dataclass(frozen=True)
class DegreeWeighted(InteractionPlan):
    """m_i = Σ_j P(Σ_l1 a_l1(r_ij) h_j[l1], Σ_l2 b_l2(r_ij) Y_ij[l2]) with a fixed product P, each channel by itself.

    The radial weights belong to the degrees of the two factors: a to the node's (the first is one, since a common factor belongs
    to b) and b to the harmonics'. The degrees of the output have the weights of the linear layer that follows: a radial weight
    there would need a sum over edges for every path, as in `cg`, where here it takes one for every degree of the harmonics.

    Every output component has unit variance for independent factors and weights of unit variance.
    """

    product: FixedCouplings
    irreps_node: e3nn.Irreps
    irreps_edge: e3nn.Irreps
    irreps_keep: e3nn.Irreps

    def __post_init__(self) -> None:
        require_use(self.product, self.irreps_node, self.irreps_edge, self.irreps_keep, self._paths)

    @functools.cached_property
    def _paths(self) -> tuple[Path, ...]:
        return coupled_paths(self.product, self.irreps_node, self.irreps_edge, self.irreps_keep)

    def paths(self) -> tuple[Path, ...]:
        return self._paths

    @functools.cached_property
    def _edge_irreps(self) -> tuple[e3nn.Irrep, ...]:
        used = {path.edge for path in self._paths}
        return tuple(irrep.ir for irrep in self.irreps_edge if irrep.ir in used)

    @functools.cached_property
    def irreps_out(self) -> e3nn.Irreps:
        return e3nn.Irreps([(1, irrep) for irrep in outputs_of(self._paths)])

    @property
    def num_weights(self) -> int:
        return len(self.irreps_node) - 1 + len(self._edge_irreps)

    @functools.cached_property
    def _strengths(self) -> np.ndarray:
        """What each path has relative to `cg`'s."""
        return path_strengths(self.product, self._paths)

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """[harmonics in use, node components, output components]."""
        harmonics = e3nn.Irreps([(1, irrep) for irrep in self._edge_irreps])
        table = self.product.table(self.irreps_node, harmonics, self.irreps_out).transpose(1, 0, 2)
        table = table * np.concatenate([np.full(out.ir.dim, output_scale(self.product, self._paths, out.ir)) for out in self.irreps_out])
        return np.where(np.abs(table) > ZERO, table, 0)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        weights = np.asarray(weights)
        num_factors = len(self.irreps_node) - 1
        nodes = dict(zip([irrep.ir for irrep in self.irreps_node], [np.ones(weights.shape[1:]), *weights[:num_factors]]))
        edges = dict(zip(self._edge_irreps, weights[num_factors:], strict=True))
        outs = outputs_of(self._paths)
        coordinates = np.zeros((len(outs), len(self._paths), *weights.shape[1:]))
        for i, (path, strength) in enumerate(zip(self._paths, self._strengths)):
            coordinates[outs.index(path.out), i] = strength * nodes[path.node] * edges[path.edge]
        return coordinates

    def __call__(
        self,
        weights: Sequence[jax.Array] | jax.Array,
        node_feats: jax.Array,
        edge_attrs: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        blocks = [in_blocks(weight)[:, :, None] for weight in weights]
        summed = self._sum_over_edges(blocks, gather_blocks(node_feats, senders), in_blocks(edge_attrs), receivers, node_feats.shape[1])
        return jnp.einsum("nyxk,yxm->mnk", summed, self._table.astype(summed.dtype))

    def _sum_over_edges(
        self, weights: Sequence[jax.Array], sender_feats: jax.Array, harmonics: jax.Array, receivers: jax.Array, num_nodes: int
    ) -> jax.Array:
        """Σ_e Y_e ⊗ h_e with the weights of both factors [nodes, harmonics in use, components, channels]."""
        num_factors = len(self.irreps_node) - 1
        feats = [sender_feats[:, :, rows] for rows in self.irreps_node.slices()]
        feats = jnp.concatenate([feats[0], *(block * weight for block, weight in zip(feats[1:], weights[:num_factors]))], axis=2)
        rows = rows_of(self.irreps_edge)
        sums = [
            sum_outer_products(harmonics[:, :, rows[irrep]], feats * weight, receivers, num_nodes)
            for irrep, weight in zip(self._edge_irreps, weights[num_factors:], strict=True)
        ]
        return jnp.concatenate(sums, axis=1)

    def flops(self, num_edges: int, num_nodes: int, channels: int) -> int:
        harmonics, components, _ = self._table.shape
        weighting = components - self.irreps_node[0].ir.dim + len(self._edge_irreps) * components
        return channels * (num_edges * (weighting + 2 * components * harmonics) + num_nodes * 2 * self._table.size)

    def bytes(self, num_edges: int, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        # Gathered features are written once and read for every degree of the harmonics; outer products per block, and per node.
        outer = self._table.shape[0] * self._table.shape[1]
        per_edge = (self.irreps_node.dim * (1 + len(self._edge_irreps)) + self.num_weights) * channels + self.irreps_edge.dim + 2
        per_node = (2 * outer + self.irreps_out.dim + self.irreps_node.dim) * channels
        return itemsize * (num_edges * per_edge + num_edges // EDGE_BLOCK * 2 * outer * channels + num_nodes * per_node)
