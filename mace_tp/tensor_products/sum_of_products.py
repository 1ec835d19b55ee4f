"""The interaction of several fixed products with radial weights for all degrees, added up: the option `rank`."""

import dataclasses
import functools
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.tensor_products.base import InteractionPlan, Path
from mace_tp.tensor_products.cg import CGInteraction
from mace_tp.tensor_products.fixed_couplings import FixedCouplings, coupled_paths, outputs_of, path_strengths, require_use


@dataclasses.dataclass(frozen=True)
class SumOfProducts(InteractionPlan):
    """m_i = Σ_j Σ_r c_r(r_ij) P(a_r(r_ij) h_j, b_r(r_ij) Y_ij): `rank` fixed products with radial weights for all degrees.

    The sum is `cg` with the path weights Σ_r a_r,l1 b_r,l2 c_r,l3 g, so it is computed as such, at the cost of `cg` and of making the weights.
    Weights are ordered by r; for each the degrees of the node, of the harmonics, of the output. The first of a_r and of c_r are one.
    """

    product: FixedCouplings
    irreps_node: e3nn.Irreps
    irreps_edge: e3nn.Irreps
    irreps_keep: e3nn.Irreps
    rank: int

    def __post_init__(self) -> None:
        require_use(self.product, self.irreps_node, self.irreps_edge, self.irreps_keep, self._paths)

    @functools.cached_property
    def _paths(self) -> tuple[Path, ...]:
        return coupled_paths(self.product, self.irreps_node, self.irreps_edge, self.irreps_keep)

    def paths(self) -> tuple[Path, ...]:
        return self._paths

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return e3nn.Irreps([(1, irrep) for irrep in outputs_of(self._paths)])

    @property
    def _sides(self) -> list[list[e3nn.Irrep]]:
        """Irreps that have weights, of node, harmonics and output."""
        used = {path.edge for path in self._paths}
        edges = [irrep.ir for irrep in self.irreps_edge if irrep.ir in used]
        return [[irrep.ir for irrep in self.irreps_node], edges, outputs_of(self._paths)]

    @property
    def num_weights(self) -> int:
        return self.rank * (sum(map(len, self._sides)) - 2)

    def _path_weights(self, weights: Sequence) -> list:
        """Σ_r a_r b_r c_r g for every path, of numpy or jax arrays."""
        nodes, edges, outs = self._sides
        strengths = path_strengths(self.product, self._paths) / np.sqrt(self.rank)
        totals = [0.0] * len(self._paths)
        per_term = self.num_weights // self.rank
        for r in range(self.rank):
            term = list(weights[r * per_term : (r + 1) * per_term])
            a, b, c = [1.0, *term[: len(nodes) - 1]], term[len(nodes) - 1 :][: len(edges)], [1.0, *term[len(nodes) - 1 + len(edges) :]]
            for i, path in enumerate(self._paths):
                totals[i] += float(strengths[i]) * b[edges.index(path.edge)] * a[nodes.index(path.node)] * c[outs.index(path.out)]
        return totals

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        outs = outputs_of(self._paths)
        coordinates = np.zeros((len(outs), len(self._paths), *weights.shape[1:]))
        for i, (path, weight) in enumerate(zip(self._paths, self._path_weights(weights))):
            coordinates[outs.index(path.out), i] = weight
        return coordinates

    def __call__(
        self,
        weights: Sequence[jax.Array] | jax.Array,
        node_feats: jax.Array,
        edge_attrs: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        separate = self._coupled(self._path_weights(weights), node_feats, edge_attrs, senders, receivers)
        copies = zip(self._coupled.irreps_out, self._coupled.irreps_out.slices())
        return jnp.concatenate([separate[rows].reshape(out.mul, out.ir.dim, *separate.shape[1:]).sum(0) for out, rows in copies])

    @functools.cached_property
    def _coupled(self) -> CGInteraction:
        return CGInteraction(self.irreps_node, self.irreps_edge, self.irreps_keep, self._paths)

    def flops(self, num_edges: int, num_nodes: int, channels: int) -> int:
        weighting = self.rank * 4 * len(self._paths) * num_edges * channels
        return weighting + self._coupled.flops(num_edges, num_nodes, channels) + num_nodes * self._coupled.irreps_out.dim * channels

    def bytes(self, num_edges: int, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        weights = num_edges * channels * (self.num_weights + len(self._paths))
        return itemsize * weights + self._coupled.bytes(num_edges, num_nodes, channels, itemsize)
