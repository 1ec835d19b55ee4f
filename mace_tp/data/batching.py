"""Padded batches of graphs, prepared in advance on a background thread."""

import collections
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from jax.typing import DTypeLike

from mace_tp.data.buckets import Bucket, choose_buckets, estimated_padding, larger_bucket, select_bucket
from mace_tp.data.configuration import LabelWeights
from mace_tp.data.graphs import Graph
from mace_tp.data.order import epoch_order
from mace_tp.graph import GraphBatch

__all__ = ["BatchLoader", "Bucket", "are_weighted", "choose_buckets", "estimated_padding", "pad_batch"]

_LOG = logging.getLogger("mace_tp")
# Batches prepared in advance of the one in use.
_AHEAD = 4


def pad_batch(graphs: Sequence[Graph], bucket: Bucket, dtype: DTypeLike) -> GraphBatch:
    """Join several graphs into one batch of the bucket's shape, in numpy arrays.

    Padded nodes have species 0 and belong to the last graph. Padded edges after those of the graphs connect the last
    node to itself.

    Args:
        graphs: fewer than `bucket.graphs`, with fewer nodes and pairs and at most as many edge slots as the bucket.
        bucket: the padded shape.
        dtype: of every real-valued array.

    Raises:
        ValueError: the graphs do not fit.
    """
    num_nodes, num_slots, num_pairs = _total(graphs)
    if len(graphs) >= bucket.graphs or not bucket.holds(num_nodes, num_slots, num_pairs):
        room = f"{bucket.graphs - 1} graphs with {bucket.nodes - 1} nodes, {bucket.edges} edge slots and {bucket.pairs - 1} pairs"
        raise ValueError(
            f"{len(graphs)} graphs with {num_nodes} nodes, {num_slots} edge slots and {num_pairs} pairs do not fit a batch of {room}"
        )
    sizes = np.array([graph.num_nodes for graph in graphs])
    slots = np.array([graph.num_edge_slots for graph in graphs])
    starts = np.repeat(np.cumsum(sizes) - sizes, slots)
    padding_node, padding_graph = bucket.nodes - 1, bucket.graphs - 1
    first_slots = np.cumsum(slots) - slots
    pair_edges = _fill((bucket.pairs, 2), [graph.pairs + first for graph, first in zip(graphs, first_slots)], np.int32)
    edge_pair = np.full(bucket.edges, bucket.pairs - 1, np.int32)
    edge_pair[pair_edges[:num_pairs]] = np.arange(num_pairs)[:, None]
    arrays: dict[str, Any] = dict(
        species=_fill((bucket.nodes,), [graph.species for graph in graphs], np.int32),
        node_graph=_fill((bucket.nodes,), [np.repeat(np.arange(len(graphs)), sizes)], np.int32, padding_graph),
        node_mask=np.arange(bucket.nodes) < num_nodes,
        senders=_fill((bucket.edges,), [np.concatenate([graph.senders for graph in graphs]) + starts], np.int32, padding_node),
        receivers=_fill((bucket.edges,), [np.concatenate([graph.receivers for graph in graphs]) + starts], np.int32, padding_node),
        edge_vectors=_fill((bucket.edges, 3), [graph.edge_vectors for graph in graphs], dtype),
        edge_mask=_fill((bucket.edges,), [graph.edge_mask for graph in graphs], bool),
        edge_pair=edge_pair,
        pair_edges=pair_edges,
        cell=_fill((bucket.graphs, 3, 3), [[graph.cell for graph in graphs]], dtype),
        graph_mask=np.arange(bucket.graphs) < len(graphs),
        energy=_fill((bucket.graphs,), [[_or_zeros(graph.interaction_energy, ()) for graph in graphs]], dtype),
        forces=_fill((bucket.nodes, 3), [_or_zeros(graph.forces, (graph.num_nodes, 3)) for graph in graphs], dtype),
        stress=_fill((bucket.graphs, 3, 3), [[_or_zeros(graph.stress, (3, 3)) for graph in graphs]], dtype),
        energy_mask=_fill((bucket.graphs,), [[graph.interaction_energy is not None for graph in graphs]], bool),
        forces_mask=_fill((bucket.graphs,), [[graph.forces is not None for graph in graphs]], bool),
        stress_mask=_fill((bucket.graphs,), [[graph.stress is not None for graph in graphs]], bool),
    )
    return GraphBatch(**arrays)  # numpy arrays, which jax moves to the device


def label_weights(graphs: Sequence[Graph], bucket: Bucket, dtype: DTypeLike) -> np.ndarray:
    """Weights of energy, forces and stress of every graph of a batch [graphs, 3]; zero for padding."""
    return _fill((bucket.graphs, 3), [[graph.weights or LabelWeights() for graph in graphs]], dtype)


def are_weighted(graphs: Iterable[Graph]) -> bool:
    """Whether any label has a weight in the loss other than one."""
    return any(graph.weights is not None for graph in graphs)


class BatchLoader:
    """The batches of a data set, epoch by epoch. The last batch of an epoch may hold fewer graphs, but is padded to a bucket, too.

    Batches contain weights of labels only with `weighted`, so that a step without weights skips their arithmetic.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        batch_size: int,
        buckets: Sequence[Bucket],
        dtype: DTypeLike,
        *,
        seed: int = 0,
        shuffle: bool = True,
        weighted: bool = False,
    ) -> None:
        self._graphs = tuple(graphs)
        self._batch_size = batch_size
        self._buckets = tuple(buckets)
        self._dtype = dtype
        self._seed = seed
        self._shuffle = shuffle
        self._weighted = weighted

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._graphs) // self._batch_size)

    @property
    def num_graphs(self) -> int:
        return len(self._graphs)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The shapes in use, ascending. The loader adds one when a batch fits none of them."""
        return self._buckets

    @buckets.setter
    def buckets(self, buckets: Sequence[Bucket]) -> None:
        self._buckets = tuple(buckets)

    def epoch(self, index: int, first: int = 0) -> Iterator[GraphBatch]:
        """The batches of one epoch, from number `first` on. Their order depends only on the seed and the index."""
        order = self._order(index)
        return _ahead(self._batch, (self._part(order, number) for number in range(first, self.num_batches)))

    def members(self, epoch: int, number: int) -> list[Graph]:
        """The graphs in a batch."""
        return [self._graphs[index] for index in self._part(self._order(epoch), number)]

    def _order(self, epoch: int) -> np.ndarray:
        return epoch_order(len(self._graphs), self._seed, epoch, self._shuffle)

    def _part(self, order: np.ndarray, number: int) -> np.ndarray:
        return order[number * self._batch_size : (number + 1) * self._batch_size]

    def _batch(self, indices: np.ndarray) -> GraphBatch:
        graphs = [self._graphs[index] for index in indices]
        bucket = self._bucket(*_total(graphs))
        batch = pad_batch(graphs, bucket, self._dtype)
        # All batches of one loader have the same arrays, because a step is compiled for them.
        return dataclasses.replace(batch, label_weights=label_weights(graphs, bucket, self._dtype)) if self._weighted else batch

    def _bucket(self, nodes: int, edges: int, pairs: int) -> Bucket:
        bucket = select_bucket(self._buckets, nodes, edges, pairs)
        if bucket is None:
            bucket = larger_bucket(self._buckets, nodes, edges)
            self._buckets = (*self._buckets, bucket)
            _LOG.info(
                "a batch of %d atoms and %d edges fits no shape; adding one for up to %d atoms and %d edges, which is compiled now",
                nodes, edges, bucket.nodes - 1, bucket.edges,
            )  # fmt: skip
        return bucket


def _ahead(prepare: Callable[[np.ndarray], GraphBatch], items: Iterable[np.ndarray]) -> Iterator[GraphBatch]:
    """Yield `prepare(item)` for every item, computed a few items in advance on a thread, which ends when this iterator ends.

    An exception of `prepare` is raised here when its item is due.
    """
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mace_tp_batches")
    pending: collections.deque[Future[GraphBatch]] = collections.deque()
    try:
        for item in items:
            pending.append(executor.submit(prepare, item))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _total(graphs: Sequence[Graph]) -> tuple[int, int, int]:
    """Nodes, edge slots and pairs."""
    return (
        sum(graph.num_nodes for graph in graphs),
        sum(graph.num_edge_slots for graph in graphs),
        sum(len(graph.pairs) for graph in graphs),
    )


def _fill(shape: tuple[int, ...], parts: Sequence, dtype: DTypeLike, padding: int = 0) -> np.ndarray:
    """Concatenate the parts along the first axis and pad to the shape."""
    filled = np.full(shape, padding, dtype)
    values = np.concatenate(parts)
    filled[: len(values)] = values
    return filled


def _or_zeros(label: np.ndarray | float | None, shape: tuple[int, ...]) -> np.ndarray | float:
    return np.zeros(shape) if label is None else label
