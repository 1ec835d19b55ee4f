"""A padded batch of atomic graphs, and sums over its nodes and edges."""

import dataclasses
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Int32, Shaped

AnyArray = jax.Array | np.ndarray


@no_type_check  # when it is made: its arrays may be on the host, and jax rebuilds it with leaves of any type
@struct.dataclass
class GraphBatch:
    """Several configurations as one graph, padded to a fixed shape.

    Real nodes and graphs come first. The last graph and the last node are always padding, and every padded node belongs to the last graph.
    Edges are sorted by receiver. They come in blocks of EDGE_BLOCK that share a receiver; the padded edges that complete a block join the
    receiver to itself. Two opposite edges between the same two periodic images form a pair, so that functions of the length are computed
    once for both. The last pair is always padding, padded edges belong to it, and a padded pair holds the same edge twice.

    The batch holds no positions. The host subtracts positions in float64 and rounds only the edge vectors, so the accuracy of energies and
    forces does not depend on the size of a structure.
    """

    species: Int32[Array, " nodes"]  # index into the model's elements
    node_graph: Int32[Array, " nodes"]  # the graph that a node belongs to
    node_mask: Bool[Array, " nodes"]  # true = real
    senders: Int32[Array, " edges"]
    receivers: Int32[Array, " edges"]  # ascending
    edge_vectors: Float[Array, "edges 3"]  # Å: receiver - sender, through the periodic image; zero where padded
    edge_mask: Bool[Array, " edges"]
    edge_pair: Int32[Array, " edges"]  # the pair that an edge belongs to
    pair_edges: Int32[Array, "pairs 2"]  # the edges of each pair
    cell: Float[Array, "graphs 3 3"]  # Å, rows are lattice vectors; zero where not periodic
    graph_mask: Bool[Array, " graphs"]
    energy: Float[Array, " graphs"]  # eV: interaction energy E - sum of E0; zero where not labelled
    forces: Float[Array, "nodes 3"]  # eV/Å; zero where not labelled
    stress: Float[Array, "graphs 3 3"]  # eV/Å³, ASE's sign; zero where not labelled
    energy_mask: Bool[Array, " graphs"]  # true = real and labelled
    forces_mask: Bool[Array, " graphs"]
    stress_mask: Bool[Array, " graphs"]
    label_weights: Float[Array, "graphs 3"] | None = None  # factors of energy, forces and stress in the loss; None: all are one

    @property
    def pair_mask(self) -> Bool[Array, " pairs"]:
        """True = real."""
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
    species: Int32[Array, " nodes"], node_mask: Bool[Array, " nodes"], senders: Int32[Array, " edges"], receivers: Int32[Array, " edges"],
    edge_vectors: Float[Array, "edges 3"], edge_mask: Bool[Array, " edges"], cell: Float[Array, "3 3"],
) -> GraphBatch:  # fmt: skip
    """Return one structure without labels, in which every edge is a pair by itself, so that nobody has to find its reverse.

    Args:
        species: index into the model's elements.
        node_mask: true = real; all nodes may be real.
        senders: of the edges.
        receivers: ascending, in blocks of EDGE_BLOCK that share one.
        edge_vectors: receiver - sender, Å.
        edge_mask: true = real; a padded edge joins its receiver to itself.
        cell: Å; zero where nothing is periodic.
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


def batch_of_edges(senders: np.ndarray, receivers: np.ndarray, edge_mask: np.ndarray, num_nodes: int) -> GraphBatch:
    """Return one graph with these edges, without elements, positions and labels; every edge is a pair by itself."""
    num_edges, one = len(senders), np.zeros(1, bool)
    edges = np.arange(num_edges, dtype=np.int32)
    arrays: dict[str, Any] = dict(
        species=np.zeros(num_nodes, np.int32), node_graph=np.zeros(num_nodes, np.int32), node_mask=np.ones(num_nodes, bool),
        senders=senders.astype(np.int32), receivers=receivers.astype(np.int32), edge_vectors=np.zeros((num_edges, 3)), edge_mask=edge_mask,
        edge_pair=edges, pair_edges=np.stack([edges, edges], axis=1), cell=np.zeros((1, 3, 3)), graph_mask=~one, energy=np.zeros(1),
        forces=np.zeros((num_nodes, 3)), stress=np.zeros((1, 3, 3)), energy_mask=one, forces_mask=one, stress_mask=one,
    )  # fmt: skip
    return GraphBatch(**arrays)  # numpy arrays, which jax moves to the device


def edge_vectors(batch: GraphBatch, cutoff: float) -> Float[Array, "edges 3"]:
    """Return edge vectors receiver - sender, Å. Padded edges get the length `cutoff`, where every radial function is zero."""
    return jnp.where(batch.edge_mask[:, None], batch.edge_vectors, outside(cutoff, batch.edge_vectors.dtype))


def displaced(batch: GraphBatch, displacements: Float[AnyArray, "nodes 3"]) -> GraphBatch:
    """Return the batch after every node has moved by its displacement, Å."""
    moved = gather(displacements, batch.receivers) - gather(displacements, batch.senders)
    return dataclasses.replace(batch, edge_vectors=batch.edge_vectors + moved)


def pair_vectors(edge_vectors: Float[AnyArray, "edges 3"], batch: GraphBatch, cutoff: float) -> Float[Array, "pairs 3"]:
    """Return the vector of the first edge of every pair, Å; padded pairs get the length `cutoff`."""
    return jnp.where(batch.pair_mask[:, None], gather(edge_vectors, batch.pair_edges[:, 0]), outside(cutoff, edge_vectors.dtype))


def outside(cutoff: float, dtype: jnp.dtype) -> Float[Array, "3"]:
    """Return the vector of a padded edge, Å; its length is the cutoff, where every radial function is zero."""
    return jnp.array([cutoff, 0.0, 0.0], dtype)


def gather(values: Shaped[AnyArray, "rows ..."], indices: Int[AnyArray, "..."]) -> Shaped[Array, "..."]:
    """Return values[indices] for indices that are in bounds; a check would enter every loop that XLA fuses the gather into."""
    return jnp.asarray(values).at[indices].get(mode="promise_in_bounds", wrap_negative_indices=False)


def segment_sum(
    values: Shaped[AnyArray, " items *shape"],
    segments: Int[AnyArray, " items"],
    num_segments: int | Any,
    *,
    indices_are_sorted: bool = False,
) -> Shaped[Array, " segments *shape"]:
    """Sum the values of each segment, for segments that are in bounds. In an export the number of segments is a symbol."""
    return jax.ops.segment_sum(values, segments, num_segments, indices_are_sorted=indices_are_sorted, mode="promise_in_bounds")


def sum_over_graphs(node_values: Shaped[AnyArray, " nodes *shape"], batch: GraphBatch) -> Shaped[Array, " graphs *shape"]:
    """Sum node values over the real nodes of each graph."""
    mask = batch.node_mask.reshape(-1, *[1] * (node_values.ndim - 1))
    return segment_sum(jnp.where(mask, node_values, 0), batch.node_graph, batch.num_graphs, indices_are_sorted=True)


def nodes_per_graph(batch: GraphBatch) -> Float[Array, " graphs"]:
    """Return the number of atoms in each graph, in the dtype of the edge vectors; one for a padded graph."""
    count = sum_over_graphs(jnp.ones(batch.num_nodes, batch.edge_vectors.dtype), batch)
    return jnp.maximum(count, 1)
