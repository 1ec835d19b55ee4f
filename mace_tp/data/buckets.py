"""Choice of a few padded shapes for the batches of a data set. Each shape costs a compilation, each padded edge wasted work."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from mace_tp.data.graphs import Graph
from mace_tp.data.order import epoch_order
from mace_tp.edge_blocks import EDGE_BLOCK

_NODE_MULTIPLE = 4
_PAIR_MULTIPLE = 8
_EDGE_MULTIPLE = math.lcm(32, EDGE_BLOCK)
# Batches simulated to choose the shapes: more than most trainings have, and drawn in milliseconds.
_MAX_DRAWS = 20_000
# Limits for large and for tiny data sets, so that the simulation stays below a second.
_MAX_DRAWN_GRAPHS = 1_000_000
_MAX_DRAWN_EPOCHS = 2_000
# Work per node (product basis, linear layers) in units of the work per edge. The choice of shapes hardly depends on it, because numbers
# of nodes and edges grow together.
_NODE_WORK = 8.0
# Number of candidate shapes.
_CANDIDATES = 32
# An additional shape costs a compilation, so it must save this fraction of the work.
_WORTH_A_COMPILATION = 0.05
# A shape added on demand is larger than the largest chosen one by at least this factor, so that one addition is enough.
_GROWTH = 1.25


@dataclasses.dataclass(frozen=True, order=True)
class Bucket:
    """A batch's padded shape. The last node, the last graph and the last pair are always padding.

    Raises:
        ValueError: the edges are not whole blocks.
    """

    nodes: int
    edges: int  # slots: real edges, fillers of blocks, and padding
    graphs: int
    pairs: int  # of opposite edges, including padding; edges / 2 + 1 are always enough

    def __post_init__(self) -> None:
        if self.edges % EDGE_BLOCK:
            raise ValueError(f"edges must be a multiple of {EDGE_BLOCK}, got {self.edges}")

    def holds(self, nodes: int, edges: int, pairs: int) -> bool:
        """Whether these numbers of nodes, edge slots and pairs fit, with at least one padded node and pair left."""
        return nodes < self.nodes and edges <= self.edges and pairs < self.pairs


def choose_buckets(
    graphs: Sequence[Graph], batch_size: int, max_buckets: int = 3, seed: int = 0, shuffle: bool = True
) -> tuple[Bucket, ...]:
    """Choose the shapes, ascending, that waste the least work on the batches of a loader with this seed.

    The order of the graphs depends only on the seed, so the loader's first batches (up to 20,000 batches, a million graphs or 2,000 epochs)
    are known: all of them fit the last shape. A second and third shape are added only if each saves 5 % of the work.

    Args:
        graphs: at least one.
        batch_size: graphs per batch.
        max_buckets: largest number of shapes.
        seed: the loader's.
        shuffle: the loader's.

    Raises:
        ValueError: no graphs, or a batch size or number of shapes below one.
    """
    if not graphs or batch_size < 1 or max_buckets < 1:
        raise ValueError(f"need graphs, a batch size and a shape, got {len(graphs)} graphs, {batch_size=}, {max_buckets=}")
    totals = _batch_totals(graphs, batch_size, seed, shuffle)
    totals = totals[np.argsort(totals[:, 1], kind="stable")]
    candidates, counts = _candidates(totals)
    work = candidates[:, :2] @ [_NODE_WORK, 1.0]
    best, least = (), np.inf
    for num_buckets in range(1, min(max_buckets, len(candidates)) + 1):
        chosen, expected = _cheapest(work, counts, num_buckets)
        if expected < (1 - _WORTH_A_COMPILATION) * least:
            best, least = chosen, expected
    return tuple(Bucket(int(nodes), int(edges), batch_size + 1, int(pairs)) for nodes, edges, pairs in candidates[list(best)])


def padded_shape(nodes: int, edges: int, pairs: int) -> Bucket:
    """The smallest shape for one graph with these numbers of nodes, edge slots and pairs."""
    slots = _round_up(max(edges, 1), _EDGE_MULTIPLE)
    return Bucket(
        nodes=_round_up(nodes + 1, _NODE_MULTIPLE),
        edges=slots,
        graphs=2,
        pairs=min(_round_up(pairs + 1, _PAIR_MULTIPLE), slots // 2 + 1),
    )


def select_bucket(buckets: Sequence[Bucket], nodes: int, edges: int, pairs: int) -> Bucket | None:
    """The first of ascending shapes that holds these numbers of nodes, edge slots and pairs; None if none does."""
    return next((bucket for bucket in buckets if bucket.holds(nodes, edges, pairs)), None)


def larger_bucket(buckets: Sequence[Bucket], nodes: int, edges: int) -> Bucket:
    """A shape for a batch that none of the ascending shapes holds, with headroom for similar batches and room for every pair."""
    top = buckets[-1]
    slots = _round_up(max(edges, _GROWTH * top.edges), _EDGE_MULTIPLE)
    return Bucket(
        nodes=_round_up(max(nodes + 1, _GROWTH * top.nodes), _NODE_MULTIPLE),
        edges=slots,
        graphs=top.graphs,
        pairs=slots // 2 + 1,
    )


def estimated_padding(graphs: Sequence[Graph], buckets: Sequence[Bucket], batch_size: int, seed: int = 0, shuffle: bool = True) -> float:
    """The fraction of edge slots without a real edge, in blocks or after them, over the batches of a loader with this seed."""
    totals = _batch_totals(graphs, batch_size, seed, shuffle).tolist()
    slots = sum((select_bucket(buckets, *total) or larger_bucket(buckets, *total[:2])).edges for total in totals)
    filled = sum(edges for _, edges, _ in totals)
    return 1 - filled / slots * sum(graph.num_edges for graph in graphs) / max(sum(graph.num_edge_slots for graph in graphs), 1)


def _batch_totals(graphs: Sequence[Graph], batch_size: int, seed: int, shuffle: bool) -> np.ndarray:
    """Nodes, edge slots and pairs of a loader's batches [batches, 3], over as many whole epochs as the limits allow."""
    sizes = np.array([(graph.num_nodes, graph.num_edge_slots, len(graph.pairs)) for graph in graphs])
    per_epoch = -(-len(sizes) // batch_size)
    num_epochs = max(1, min(_MAX_DRAWS // per_epoch, _MAX_DRAWN_GRAPHS // len(sizes), _MAX_DRAWN_EPOCHS)) if shuffle else 1
    epochs = []
    for epoch in range(num_epochs):
        drawn = np.zeros((per_epoch * batch_size, sizes.shape[1]), np.int64)
        drawn[: len(sizes)] = sizes[epoch_order(len(sizes), seed, epoch, shuffle)]
        epochs.append(drawn.reshape(per_epoch, batch_size, -1).sum(axis=1))
    return np.concatenate(epochs)


def _candidates(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shapes [candidates, 3] that each hold the batches up to a quantile of the edges, and the number of these batches [candidates].

    The batches are sorted by edges, not by nodes and pairs: a shape has the maximum of these over all batches below its quantile.
    """
    quantiles = np.unique(np.linspace(0, len(totals), _CANDIDATES + 1).astype(int)[1:])
    nodes = _round_up(np.maximum.accumulate(totals[:, 0])[quantiles - 1] + 1, _NODE_MULTIPLE)
    edges = _round_up(np.maximum(totals[quantiles - 1, 1], 1), _EDGE_MULTIPLE)
    pairs = _round_up(np.maximum.accumulate(totals[:, 2])[quantiles - 1] + 1, _PAIR_MULTIPLE)
    shapes = np.stack([nodes, edges, np.minimum(pairs, edges // 2 + 1)], axis=1)
    # Rounding may make shapes equal; the last of them holds the most batches.
    last = np.append((shapes[1:, :2] != shapes[:-1, :2]).any(axis=1), True)
    return shapes[last], quantiles[last]


def _cheapest(work: np.ndarray, counts: np.ndarray, num_buckets: int) -> tuple[tuple[int, ...], float]:
    """The candidates with the least expected work, always including the last one, and this work per batch."""
    last = len(work) - 1
    choices = np.array([(*lower, last) for lower in itertools.combinations(range(last), num_buckets - 1)])
    used = np.diff(counts[choices], axis=1, prepend=0)
    expected = (used * work[choices]).sum(axis=1) / counts[-1]
    cheapest = int(np.argmin(expected))
    return tuple(choices[cheapest].tolist()), float(expected[cheapest])


def _round_up(number: float | np.ndarray, multiple: int) -> int | np.ndarray:
    rounded = np.ceil(np.asarray(number) / multiple).astype(np.int64) * multiple
    return rounded if rounded.ndim else int(rounded)
