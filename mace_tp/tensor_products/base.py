"""The seam behind which tensor products are exchanged: what the two sites of MACE ask of one.

A tensor product is a frozen dataclass of options. It plans once, when the model is built; a plan holds the static tables
and no parameters, and maps plain arrays to plain arrays. Features are [components, nodes, channels]: components (the rows
of the irreps, in e3nn's order) lead, so that channel mixing is a matrix product and one component of all nodes is
contiguous. Where irreps carry a multiplicity, the copies of one irrep follow each other: [copy, m].
"""

import abc
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax


class InteractionPlan(abc.ABC):
    """gather → product → scatter: sums, over the edges that a node receives, the product of sender features and harmonics."""

    irreps_out: e3nn.Irreps  # with one copy of an irrep for every path that reaches it, sorted
    num_weights: int  # per edge and channel

    @abc.abstractmethod
    def __call__(
        self,
        weights: Sequence[jax.Array] | jax.Array,
        node_feats: jax.Array,
        edge_attrs: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        """Sum of messages at every receiver [irreps_out.dim, nodes, channels].

        Args:
            weights: num_weights arrays [edges, channels], radial; exactly zero on padded edges.
            node_feats: [components, nodes, channels].
            edge_attrs: harmonics [edges, components].
            senders: [edges], int.
            receivers: [edges], int; in blocks of EDGE_BLOCK equal entries, ascending.
        """


class ProductBasisPlan(abc.ABC):
    """Symmetric powers of a node's features, up to the correlation order, with element-dependent weights."""

    irreps_out: e3nn.Irreps
    num_weights: int  # per element and channel
    weight_scales: tuple[float, ...]  # standard deviation of each weight at initialisation

    @abc.abstractmethod
    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        """Product basis [irreps_out.dim, nodes, channels].

        Args:
            weights: [num_weights, elements, channels].
            node_feats: A-basis [components, nodes, channels].
            species: element index of each node [nodes], int.
        """


class TensorProduct(abc.ABC):
    """One way to multiply equivariant features. Subclasses are frozen dataclasses whose fields are the options."""

    @abc.abstractmethod
    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        """Plan for node features (multiplicity one) times harmonics; outputs other than `irreps_keep` are dropped."""

    @abc.abstractmethod
    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        """Plan for all orders 1 .. correlation of `irreps_in` (multiplicity one) that reach `irreps_out`."""
