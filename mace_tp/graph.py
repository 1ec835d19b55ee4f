"""A padded batch of atomic graphs, and the sums over its parts."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class GraphBatch:
    """Several configurations as one graph, padded to a fixed shape.

    Real nodes and graphs come first. Every padded node belongs to the last graph, which is never real; the last node is
    never real either. Edges are sorted by receiver and come in blocks of EDGE_BLOCK that share one; a padded edge, which
    fills up a block, joins its receiver to itself. Two edges that run between the same two images in opposite directions are a pair:
    what depends on the length alone is computed once for both. The last pair is never real; padded edges belong to it, and a padded
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


def batch_of_edges(senders: np.ndarray, receivers: np.ndarray, edge_mask: np.ndarray, num_nodes: int) -> GraphBatch:
    """One graph with these edges and without elements, positions and labels; every edge is a pair by itself."""
    num_edges, one = len(senders), np.zeros(1, bool)
    edges = np.arange(num_edges, dtype=np.int32)
    return GraphBatch(
        species=np.zeros(num_nodes, np.int32), node_graph=np.zeros(num_nodes, np.int32), node_mask=np.ones(num_nodes, bool),
        senders=senders.astype(np.int32), receivers=receivers.astype(np.int32), edge_vectors=np.zeros((num_edges, 3)), edge_mask=edge_mask,
        edge_pair=edges, pair_edges=np.stack([edges, edges], axis=1), cell=np.zeros((1, 3, 3)), graph_mask=~one, energy=np.zeros(1),
        forces=np.zeros((num_nodes, 3)), stress=np.zeros((1, 3, 3)), energy_mask=one, forces_mask=one, stress_mask=one,
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
    is_real = batch.pair_edges[:, :1] != batch.pair_edges[:, 1:]
    return jnp.where(is_real, gather(edge_vectors, batch.pair_edges[:, 0]), outside(cutoff, edge_vectors.dtype))


def outside(cutoff: float, dtype: jnp.dtype) -> jax.Array:
    """The vector of a padded edge [3], Å: at the cutoff, where every radial function is zero."""
    return jnp.array([cutoff, 0.0, 0.0], dtype)


def gather(values: jax.Array, indices: jax.Array) -> jax.Array:
    """values[indices], of indices that are known to be in bounds: a check would enter every loop that the gather is fused into."""
    return jnp.asarray(values).at[indices].get(mode="promise_in_bounds", wrap_negative_indices=False)


def segment_sum(values: jax.Array, segments: jax.Array, num_segments: int, *, indices_are_sorted: bool = False) -> jax.Array:
    """Sum of the values of each segment, of segments that are known to be in bounds."""
    return jax.ops.segment_sum(values, segments, num_segments, indices_are_sorted=indices_are_sorted, mode="promise_in_bounds")


def sum_over_graphs(node_values: jax.Array, batch: GraphBatch) -> jax.Array:
    """Sum of node values [nodes, ...] over the real nodes of each graph [graphs, ...]."""
    mask = batch.node_mask.reshape(-1, *[1] * (node_values.ndim - 1))
    return segment_sum(jnp.where(mask, node_values, 0), batch.node_graph, batch.num_graphs, indices_are_sorted=True)


def nodes_per_graph(batch: GraphBatch) -> jax.Array:
    """Number of real atoms in each graph [graphs], in the dtype of the edge vectors; one for a padded graph."""
    count = sum_over_graphs(jnp.ones(batch.num_nodes, batch.edge_vectors.dtype), batch)
    return jnp.maximum(count, 1)
