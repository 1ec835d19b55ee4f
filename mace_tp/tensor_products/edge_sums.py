"""The sum over edges before the coupling, common to all interactions.

A bilinear product of a sender's features h and the harmonics Y is linear in the outer product of the two, so the sum over a
receiver's edges may come first: Σ_e Y_e ⊗ (w_e h_e) is a small matrix product for every block of edges, and the product
itself then runs over nodes, of which there are many times fewer.
"""

import jax
import jax.numpy as jnp

from mace_tp.graph import EDGE_BLOCK


def gather_blocks(node_feats: jax.Array, senders: jax.Array) -> jax.Array:
    """Features [components, nodes, channels] of the senders [blocks, EDGE_BLOCK, components, channels]."""
    return node_feats.transpose(1, 0, 2)[senders].reshape(-1, EDGE_BLOCK, *node_feats.shape[::2])


def in_blocks(edge_values: jax.Array) -> jax.Array:
    """[edges, ...] → [blocks, EDGE_BLOCK, ...]."""
    return edge_values.reshape(-1, EDGE_BLOCK, *edge_values.shape[1:])


def sum_outer_products(harmonics: jax.Array, feats: jax.Array, receivers: jax.Array, num_nodes: int) -> jax.Array:
    """Σ over a receiver's edges of Y ⊗ feats [nodes, harmonics, components, channels].

    Args:
        harmonics: [blocks, EDGE_BLOCK, harmonics].
        feats: weighted features [blocks, EDGE_BLOCK, components, channels].
        receivers: [edges], in blocks of equal entries.
        num_nodes: how many receivers there are.
    """
    summed = jnp.einsum("bej,bex->bjx", harmonics, feats.reshape(*feats.shape[:2], -1))
    summed = jax.ops.segment_sum(summed.reshape(summed.shape[0], -1), receivers[::EDGE_BLOCK], num_nodes, indices_are_sorted=True)
    return summed.reshape(num_nodes, harmonics.shape[-1], *feats.shape[2:])
