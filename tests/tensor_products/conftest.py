"""A few edges in blocks that share a receiver, and rotation matrices."""

import e3nn_jax as e3nn
import numpy as np
import pytest

from mace_tp.edge_blocks import fill_edge_blocks

NUM_NODES, CHANNELS = 4, 2


class Edges:
    """Random edges among four nodes, one of which receives none and one more than a block; weights are zero on padded slots."""

    def __init__(self, num_weights: int, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, channels: int = CHANNELS) -> None:
        rng = np.random.default_rng(0)
        receivers = np.repeat(np.arange(NUM_NODES), [3, 0, 11, 2]).astype(np.int32)
        senders = rng.integers(0, NUM_NODES, len(receivers)).astype(np.int32)
        self.senders, self.receivers, _, self.mask = fill_edge_blocks(senders, receivers, np.zeros((len(receivers), 3)), NUM_NODES)
        num_slots = len(self.mask)
        self.weights = [rng.normal(size=(num_slots, channels)) * self.mask[:, None] for _ in range(num_weights)]
        self.node_feats = rng.normal(size=(irreps_node.dim, NUM_NODES, channels))
        self.edge_attrs = rng.normal(size=(num_slots, irreps_edge.dim))


@pytest.fixture(params=[1, -1], ids=["rotation", "rotation+inversion"])
def matrix(request) -> np.ndarray:
    """An element of O(3)."""
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    return request.param * rotation * np.linalg.det(rotation)


@pytest.fixture(scope="session")
def make_edges() -> type[Edges]:
    return Edges
