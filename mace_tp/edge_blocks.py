"""Arranges edges as `GraphBatch` needs them: blocks that share a receiver, and pairs of opposite edges. Uses numpy only."""

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

# Edges per block. All edges of a block have one receiver, so that their sum is a loop of fixed length. With 4 a training step on 3BPA takes
# 1.2 times as long, with 6 and 12 1.15 times, although a fifth of the slots is padding (benchmarks/benchmark_step.py --edge-block).
EDGE_BLOCK = 8


Indices = Int[np.ndarray, " slots"]


def fill_edge_blocks(
    senders: Int[np.ndarray, " edges"], receivers: Int[np.ndarray, " edges"], vectors: Float[np.ndarray, "edges 3"], num_nodes: int
) -> tuple[Indices, Indices, Float[np.ndarray, "slots 3"], Bool[np.ndarray, " slots"]]:
    """Pad the edges of each receiver to a multiple of EDGE_BLOCK; an atom without neighbors gets no block.

    Args:
        senders: of the edges.
        receivers: of the edges, ascending.
        vectors: edge vectors, Å.
        num_nodes: nodes of the graph.

    Returns:
        Senders, receivers, vectors and edge mask of all slots. A padded slot joins its receiver to itself with a vector of zero.
    """
    counts = np.bincount(receivers, minlength=num_nodes)
    slots = -(-counts // EDGE_BLOCK) * EDGE_BLOCK
    first_edge, first_slot = np.cumsum(counts) - counts, np.cumsum(slots) - slots
    position = np.arange(len(receivers)) - np.repeat(first_edge, counts) + np.repeat(first_slot, counts)
    slot_receivers = np.repeat(np.arange(num_nodes), slots).astype(receivers.dtype)
    slot_senders, slot_vectors = slot_receivers.copy(), np.zeros((len(slot_receivers), 3), vectors.dtype)
    mask = np.zeros(len(slot_receivers), bool)
    slot_senders[position], slot_vectors[position], mask[position] = senders, vectors, True
    return slot_senders, slot_receivers, slot_vectors, mask


def pair_slots(reverse: Int[np.ndarray, " edges"], edge_mask: Bool[np.ndarray, " slots"]) -> Int32[np.ndarray, "pairs 2"]:
    """Return the slots of each edge and its reverse.

    Args:
        reverse: for every edge the edge in the opposite direction.
        edge_mask: of the slots; the real slots hold the edges in their order.
    """
    slots, edges = np.flatnonzero(edge_mask), np.arange(len(reverse))
    return np.column_stack([slots, slots[reverse]])[edges < reverse].astype(np.int32)
