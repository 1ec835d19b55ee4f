"""Edges in blocks that share a receiver and in pairs of opposite direction, as `GraphBatch` wants them."""

import numpy as np

from mace_tp.graph import EDGE_BLOCK


def fill_edge_blocks(
    senders: np.ndarray, receivers: np.ndarray, shifts: np.ndarray, num_nodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fill up the edges of each receiver to a multiple of EDGE_BLOCK; an atom without neighbors gets no block.

    Args:
        senders: [edges].
        receivers: [edges], ascending.
        shifts: [edges, 3], Å.
        num_nodes: nodes of the graph.

    Returns:
        senders, receivers, shifts and edge mask of all slots; a padded slot joins its receiver to itself.
    """
    counts = np.bincount(receivers, minlength=num_nodes)
    slots = -(-counts // EDGE_BLOCK) * EDGE_BLOCK
    first_edge, first_slot = np.cumsum(counts) - counts, np.cumsum(slots) - slots
    position = np.arange(len(receivers)) - np.repeat(first_edge, counts) + np.repeat(first_slot, counts)
    slot_receivers = np.repeat(np.arange(num_nodes), slots).astype(receivers.dtype)
    slot_senders, slot_shifts = slot_receivers.copy(), np.zeros((len(slot_receivers), 3), shifts.dtype)
    mask = np.zeros(len(slot_receivers), bool)
    slot_senders[position], slot_shifts[position], mask[position] = senders, shifts, True
    return slot_senders, slot_receivers, slot_shifts, mask


def pair_edges(senders: np.ndarray, receivers: np.ndarray, shifts: np.ndarray, edge_mask: np.ndarray) -> np.ndarray:
    """Slots of every edge and its reverse [edges / 2, 2], int32.

    Args:
        senders: [slots].
        receivers: [slots].
        shifts: [slots, 3], Å; those of an edge and its reverse are opposite to the last bit.
        edge_mask: [slots], bool.

    Raises:
        ValueError: an edge has no reverse.
    """
    slots = np.flatnonzero(edge_mask)
    # Adding zero takes the sign from a negative one.
    there = np.column_stack([senders[slots], receivers[slots], shifts[slots]]) + 0.0
    back = np.column_stack([receivers[slots], senders[slots], -shifts[slots]]) + 0.0
    order_there, order_back = np.lexsort(there.T), np.lexsort(back.T)
    if not np.array_equal(there[order_there], back[order_back]):
        raise ValueError("every edge must have a reverse, between the same images of the two atoms")
    first, second = slots[order_there], slots[order_back]
    return np.column_stack([first, second])[first < second].astype(np.int32)
