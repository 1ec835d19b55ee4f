"""A padded batch of atomic graphs, and the sums over its parts."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class GraphBatch:
    """Several configurations as one graph, padded to a fixed shape.

    Real nodes and graphs come first. Every padded node belongs to the last graph, which is never real; the last node is
    never real either. Edges are sorted by receiver and come in blocks of EDGE_BLOCK that share one; a padded edge, which
    fills up a block, joins its receiver to itself. Two edges that run between the same two images in opposite directions are a pair:
    functions of the length are computed once for both. The last pair is never real; padded edges belong to it, and a padded
    pair holds one edge twice.

    Positions are not among the arrays. The host subtracts them in float64 and rounds the edge vectors afterwards, so that the digits of
    energies and forces do not depend on the extent of a structure.
    """

    species: jax.Array  # [nodes], int32: index into the model's elements
    node_graph: jax.Array  # [nodes], int32: the graph that a node belongs to
    node_mask: jax.Array  # [nodes], bool: true = real
    senders: jax.Array  # [edges], int32
    receivers: jax.Array  # [edges], int32, ascending
    edge_vectors: jax.Array  # [edges, 3], Å: receiver - sender, through the periodic image; zero where padded
    edge_mask: jax.Array  # [edges], bool
    edge_pair: jax.Array  # [edges], int32: the pair that an edge belongs to
    pair_edges: jax.Array  # [pairs, 2], int32: the edges of each pair
    cell: jax.Array  # [graphs, 3, 3], Å, rows are lattice vectors; zero where not periodic
    graph_mask: jax.Array  # [graphs], bool
    energy: jax.Array  # [graphs], eV: interaction energy E - sum of E0; zero where not labelled
    forces: jax.Array  # [nodes, 3], eV/Å; zero where not labelled
    stress: jax.Array  # [graphs, 3, 3], eV/Å³, ASE's sign; zero where not labelled
    energy_mask: jax.Array  # [graphs], bool: true = real and labelled
    forces_mask: jax.Array  # [graphs], bool
    stress_mask: jax.Array  # [graphs], bool
    label_weights: jax.Array | None = None  # [graphs, 3]: factors of energy, forces and stress in the loss; None: all are one

    @property
    def pair_mask(self) -> jax.Array:
        """[pairs], bool: true = real."""
        return self.pair_edges[:, 0] != self.pair_edges[:, 1]

    @property
    def num_nodes(self) -> int:
        return self.species.shape[0]

    @property
    def num_edges(self) -> int:
        return self.senders.shape[0]

    @property
    def num_pairs(self) -> int:
        return self.pair_edges.shape[0]

    @property
    def num_graphs(self) -> int:
        return self.cell.shape[0]


def single_structure(
    species: jax.Array, node_mask: jax.Array, senders: jax.Array, receivers: jax.Array, edge_vectors: jax.Array, edge_mask: jax.Array,
    cell: jax.Array,
) -> GraphBatch:  # fmt: skip
    """One structure without labels, in which every edge is a pair of its own, so that nobody has to find its reverse.

    Args:
        species: [nodes], int32.
        node_mask: [nodes], bool; all may be real.
        senders: [edges], int32.
        receivers: [edges], int32, ascending, in blocks of EDGE_BLOCK that share one.
        edge_vectors: [edges, 3], Å.
        edge_mask: [edges], bool; a padded edge joins its receiver to itself.
        cell: [3, 3], Å; zero where nothing is periodic.
    """
    num_nodes, num_edges, dtype = species.shape[0], senders.shape[0], edge_vectors.dtype
    edges = jnp.arange(num_edges, dtype=jnp.int32)
    # The second edge of a pair is never read; a pair is real if it differs from the first.
    pairs = jnp.stack([edges, jnp.where(edge_mask, (edges + 1) % num_edges, edges)], axis=1)
    no_label = jnp.zeros(1, bool)
    return GraphBatch(
        species=species, node_graph=jnp.zeros_like(species), node_mask=node_mask, senders=senders, receivers=receivers,
        edge_vectors=edge_vectors, edge_mask=edge_mask, edge_pair=edges, pair_edges=pairs, cell=cell[None], graph_mask=jnp.ones(1, bool),
        energy=jnp.zeros(1, dtype), forces=jnp.zeros((num_nodes, 3), dtype), stress=jnp.zeros((1, 3, 3), dtype),
        energy_mask=no_label, forces_mask=no_label, stress_mask=no_label,
    )  # fmt: skip


def edge_vectors(batch: GraphBatch, cutoff: float) -> jax.Array:
    """Edge vectors receiver - sender [edges, 3], Å. Padded edges get the length `cutoff`, where every radial function is zero."""
    return jnp.where(batch.edge_mask[:, None], batch.edge_vectors, outside(cutoff, batch.edge_vectors.dtype))


def displaced(batch: GraphBatch, displacements: jax.Array) -> GraphBatch:
    """The batch after every node has moved by its displacement [nodes, 3], Å."""
    moved = gather(displacements, batch.receivers) - gather(displacements, batch.senders)
    return batch.replace(edge_vectors=batch.edge_vectors + moved)


def pair_vectors(edge_vectors: jax.Array, batch: GraphBatch, cutoff: float) -> jax.Array:
    """Displacements along the first edge of every pair [pairs, 3], Å; of length `cutoff` for padded pairs."""
    return jnp.where(batch.pair_mask[:, None], gather(edge_vectors, batch.pair_edges[:, 0]), outside(cutoff, edge_vectors.dtype))


def outside(cutoff: float, dtype: jnp.dtype) -> jax.Array:
    """The vector of a padded edge [3], Å: at the cutoff, where every radial function is zero."""
    return jnp.array([cutoff, 0.0, 0.0], dtype)


def gather(values: jax.Array, indices: jax.Array) -> jax.Array:
    """values[indices] for indices known to be in bounds: a bounds check would enter every loop that the gather is fused into."""
    return jnp.asarray(values).at[indices].get(mode="promise_in_bounds", wrap_negative_indices=False)


def segment_sum(values: jax.Array, segments: jax.Array, num_segments: int, *, indices_are_sorted: bool = False) -> jax.Array:
    """Sum of the values of each segment, for segments known to be in bounds."""
    return jax.ops.segment_sum(values, segments, num_segments, indices_are_sorted=indices_are_sorted, mode="promise_in_bounds")


def sum_over_graphs(node_values: jax.Array, batch: GraphBatch) -> jax.Array:
    """Sum of node values [nodes, ...] over the real nodes of each graph [graphs, ...]."""
    mask = batch.node_mask.reshape(-1, *[1] * (node_values.ndim - 1))
    return segment_sum(jnp.where(mask, node_values, 0), batch.node_graph, batch.num_graphs, indices_are_sorted=True)


def nodes_per_graph(batch: GraphBatch) -> jax.Array:
    """Number of real atoms in each graph [graphs], in the dtype of the edge vectors; one for a padded graph."""
    count = sum_over_graphs(jnp.ones(batch.num_nodes, batch.edge_vectors.dtype), batch)
    return jnp.maximum(count, 1)
