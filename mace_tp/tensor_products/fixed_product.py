"""A tensor product whose couplings are fixed, so that only degrees have weights: what it has to give, and its interaction."""

import abc
import dataclasses
import functools
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.graph import EDGE_BLOCK
from mace_tp.tensor_products.base import InteractionPlan, Path, TensorProduct, UnreachableIrrep
from mace_tp.tensor_products.cg import CGInteraction
from mace_tp.tensor_products.edge_sums import gather_blocks, in_blocks, sum_outer_products
from mace_tp.tensor_products.irreps import rows_of

# A coupling smaller than this is zero: couplings are sums of a few terms of order one.
ZERO = 1e-10


class FixedProduct(TensorProduct):
    """A bilinear map without weights of its own, given twice: by its own construction, and by its couplings in closed form."""

    name: str  # for messages

    @abc.abstractmethod
    def table(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
        """The product of component i and component j, component m of it [i, j, m], float64, as the product itself is defined."""

    @abc.abstractmethod
    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        """Factor of the table relative to C[l1, l2, l3] of Frobenius norm one."""

    @property
    def num_terms(self) -> int:
        """How many products with weights of their own the interaction is the sum of."""
        return 1

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> "DegreeWeighted":
        # Scalars times harmonics have one path for each degree: the weights of one term are all that there is.
        is_scalar = irreps_node == e3nn.Irreps("0e")
        return DegreeWeighted(self, irreps_node, irreps_edge, irreps_keep, 1 if is_scalar else self.num_terms)


@dataclasses.dataclass(frozen=True)
class DegreeWeighted(InteractionPlan):
    """m_i^r = Σ_j P(Σ_l1 a_r,l1(r_ij) h_j[l1], Σ_l2 b_r,l2(r_ij) Y_ij[l2]), r = 1 .. rank, with a fixed product P, channel by channel.

    The radial weights belong to the degrees of the two factors: a_r to the node's (the first is one, since a common factor belongs
    to b_r) and b_r to the harmonics'. The degrees of the output have the weights of the linear layer that follows, which adds up the
    `rank` copies, too: a radial weight there would need a sum over edges for every path, as in `cg`, where here one for every degree
    of the harmonics is enough. Weights are ordered by r; for each the degrees of the node without the first, those of the harmonics.

    P acts on the sums over edges, at the nodes, as the table that it is for these irreps; edge by edge on the sphere the interaction
    takes several times as long (`scripts/benchmark_transforms.py --site interaction`). Every output component has unit variance for
    independent factors and weights of unit variance.
    """

    product: FixedProduct
    irreps_node: e3nn.Irreps
    irreps_edge: e3nn.Irreps
    irreps_keep: e3nn.Irreps
    rank: int = 1

    def __post_init__(self) -> None:
        used = {path.node for path in self._paths}
        for irrep in self.irreps_node:
            if irrep.ir not in used:
                reason = f"{self.product.name} couples {irrep.ir} and harmonics ({self.irreps_edge}) to none of {self.irreps_keep}"
                raise UnreachableIrrep(f"model.hidden_irreps: in the interaction {reason}; drop it")

    @functools.cached_property
    def _paths(self) -> tuple[Path, ...]:
        paths = CGInteraction(self.irreps_node, self.irreps_edge, self.irreps_keep).paths()
        return tuple(path for path in paths if abs(self.product.coupling(path.node, path.edge, path.out)) > ZERO)

    def paths(self) -> tuple[Path, ...]:
        return self._paths

    @functools.cached_property
    def _edge_irreps(self) -> tuple[e3nn.Irrep, ...]:
        used = {path.edge for path in self._paths}
        return tuple(irrep.ir for irrep in self.irreps_edge if irrep.ir in used)

    @functools.cached_property
    def _outputs(self) -> tuple[e3nn.Irrep, ...]:
        return tuple(dict.fromkeys(path.out for path in self._paths))

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return e3nn.Irreps([(self.rank, irrep) for irrep in self._outputs])

    @property
    def num_weights(self) -> int:
        return self.rank * self._weights_per_term

    @property
    def _weights_per_term(self) -> int:
        return len(self.irreps_node) - 1 + len(self._edge_irreps)

    @functools.cached_property
    def _strengths(self) -> tuple[float, ...]:
        """For every path its coupling relative to the component-normalized path sqrt(2l3+1) C of `cg`."""
        couplings = [self.product.coupling(path.node, path.edge, path.out) / path.out.dim**0.5 for path in self._paths]
        return tuple(self._scales[path.out] * coupling for path, coupling in zip(self._paths, couplings))

    @functools.cached_property
    def _scales(self) -> dict[e3nn.Irrep, float]:
        """What makes the variance of an output irrep one: it is Σ g² / (2l3+1) over the paths that reach it."""
        variances = dict.fromkeys(self._outputs, 0.0)
        for path in self._paths:
            variances[path.out] += self.product.coupling(path.node, path.edge, path.out) ** 2 / path.out.dim
        return {irrep: variance**-0.5 for irrep, variance in variances.items()}

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """[harmonics in use, node components, output components] of one term."""
        harmonics, outputs = (e3nn.Irreps([(1, irrep) for irrep in irreps]) for irreps in (self._edge_irreps, self._outputs))
        table = self.product.table(self.irreps_node, harmonics, outputs).transpose(1, 0, 2)
        table = table * np.concatenate([np.full(irrep.dim, self._scales[irrep]) for irrep in self._outputs])
        return np.where(np.abs(table) > ZERO, table, 0)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        terms = np.asarray(weights).reshape(self.rank, self._weights_per_term, *weights.shape[1:])
        coordinates = np.zeros((len(self._outputs), self.rank, len(self._paths), *weights.shape[1:]))
        num_factors = len(self.irreps_node) - 1
        for r, term in enumerate(terms):
            nodes = dict(zip([irrep.ir for irrep in self.irreps_node], [np.ones(weights.shape[1:]), *term[:num_factors]]))
            edges = dict(zip(self._edge_irreps, term[num_factors:], strict=True))
            for i, (path, strength) in enumerate(zip(self._paths, self._strengths)):
                coordinates[self._outputs.index(path.out), r, i] = strength * nodes[path.node] * edges[path.edge]
        return coordinates.reshape(-1, *coordinates.shape[2:])

    def __call__(
        self,
        weights: Sequence[jax.Array] | jax.Array,
        node_feats: jax.Array,
        edge_attrs: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        blocks = [in_blocks(weight)[:, :, None] for weight in weights]
        sender_feats, harmonics = gather_blocks(node_feats, senders), in_blocks(edge_attrs)
        terms = []
        for r in range(self.rank):
            term = blocks[r * self._weights_per_term : (r + 1) * self._weights_per_term]
            summed = self._sum_over_edges(term, sender_feats, harmonics, receivers, node_feats.shape[1])
            terms.append(jnp.einsum("nyxk,yxm->mnk", summed, self._table.astype(summed.dtype)))
        rows = rows_of(e3nn.Irreps([(1, irrep) for irrep in self._outputs]))
        return jnp.concatenate([term[rows[irrep]] for irrep in self._outputs for term in terms])

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
        per_edge, per_node = weighting + 2 * components * harmonics, 2 * self._table.size
        return self.rank * channels * (num_edges * per_edge + num_nodes * per_node)

    def bytes(self, num_edges: int, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        # Gathered features are written once and read for every degree of the harmonics; outer products per block, and per node.
        outer = self.rank * self._table.shape[0] * self._table.shape[1]
        weighted = self.rank * len(self._edge_irreps) * self.irreps_node.dim
        per_edge = (self.irreps_node.dim + weighted + self.num_weights) * channels + self.irreps_edge.dim + 2
        per_node = (2 * outer + self.irreps_out.dim + self.irreps_node.dim) * channels
        return itemsize * (num_edges * per_edge + num_edges // EDGE_BLOCK * 2 * outer * channels + num_nodes * per_node)
