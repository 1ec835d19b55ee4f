"""Padded batches keep every real value, and loaders every configuration, in an order that the seed decides."""

import threading
import time

import numpy as np
import pytest

from mace_tp.data.batching import BatchLoader, Bucket, choose_buckets, pad_batch
from mace_tp.data.graphs import build_graphs
from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.graph import nodes_per_graph, sum_over_graphs

CUTOFF = 3.0


@pytest.fixture
def graphs(make_gas):
    """Gases of 3 to 22 atoms, some without labels, some periodic."""
    sizes = np.random.default_rng(1).integers(3, 23, 30).tolist()
    cells = [dict(cell=9 * np.eye(3), pbc=(True, True, True), stress=np.eye(3) * index) if index % 3 == 0 else {} for index in range(30)]
    energies = [None if index % 4 == 0 else float(index) for index in range(30)]
    gases = [make_gas(size, seed, energy=energies[seed], **cells[seed]) for seed, size in enumerate(sizes)]
    return build_graphs(gases, (1,), (-0.5,), CUTOFF)


@pytest.fixture
def batch(graphs):
    return pad_batch(graphs[:4], Bucket(nodes=80, edges=2048, graphs=6, pairs=1025), np.float64)


def test_real_entries_come_first_and_keep_their_values(graphs, batch):
    node = edge = 0
    for index, graph in enumerate(graphs[:4]):
        nodes, edges = slice(node, node + graph.num_nodes), slice(edge, edge + graph.num_edge_slots)
        np.testing.assert_array_equal(batch.forces[nodes], graph.forces)
        np.testing.assert_array_equal(batch.node_graph[nodes], index)
        np.testing.assert_array_equal(batch.edge_vectors[edges], graph.edge_vectors)
        np.testing.assert_array_equal(batch.edge_mask[edges], graph.edge_mask)
        np.testing.assert_array_equal(batch.senders[edges] - node, graph.senders)
        np.testing.assert_array_equal(batch.cell[index], graph.cell)
        node, edge = nodes.stop, edges.stop
    assert batch.node_mask[:node].all() and not batch.node_mask[node:].any() and not batch.edge_mask[edge:].any()
    assert batch.edge_mask.sum() == sum(graph.num_edges for graph in graphs[:4])


def test_padding_belongs_to_the_last_node_and_the_last_graph(batch):
    last = np.flatnonzero(batch.edge_mask)[-1] // EDGE_BLOCK * EDGE_BLOCK + EDGE_BLOCK
    assert (batch.senders[last:] == 79).all() and (batch.receivers[last:] == 79).all() and len(batch.receivers) > last
    assert (batch.senders == batch.receivers)[~batch.edge_mask].all()
    assert (batch.node_graph[~batch.node_mask] == 5).all()
    assert not batch.species[~batch.node_mask].any() and not batch.edge_vectors[~batch.edge_mask].any()
    assert not batch.forces[~batch.node_mask].any()
    assert batch.graph_mask.tolist() == [True] * 4 + [False] * 2
    assert (np.diff(batch.receivers) >= 0).all() and (np.diff(batch.node_graph) >= 0).all()
    assert not batch.node_mask[-1]


def test_edges_come_in_blocks_that_share_a_receiver(batch):
    blocks = batch.receivers.reshape(-1, EDGE_BLOCK)
    assert (blocks == blocks[:, :1]).all()


def test_pairs_hold_an_edge_and_its_reverse(graphs, batch):
    num_pairs = batch.edge_mask.sum() // 2
    first, second = batch.pair_edges[:num_pairs].T
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.flatnonzero(batch.edge_mask))
    np.testing.assert_array_equal(batch.senders[first], batch.receivers[second])
    np.testing.assert_array_equal(batch.edge_vectors[first], -batch.edge_vectors[second])
    np.testing.assert_array_equal(batch.edge_pair[first], np.arange(num_pairs))
    np.testing.assert_array_equal(batch.edge_pair[second], np.arange(num_pairs))


def test_padded_edges_belong_to_the_last_pair_which_is_never_real(batch):
    num_pairs = batch.edge_mask.sum() // 2
    assert batch.num_pairs > num_pairs and (batch.edge_pair[~batch.edge_mask] == batch.num_pairs - 1).all()
    assert (batch.pair_edges[num_pairs:, 0] == batch.pair_edges[num_pairs:, 1]).all()


def test_labels_are_masked_where_they_are_missing(graphs, batch):
    assert batch.energy_mask.tolist() == [False, True, True, True, False, False]
    assert batch.energy.tolist() == pytest.approx([0.0] + [graph.interaction_energy for graph in graphs[1:4]] + [0.0, 0.0])
    assert batch.stress_mask.tolist() == [True, False, False, True, False, False]
    np.testing.assert_array_equal(batch.stress[3], 3 * np.eye(3))
    assert batch.forces_mask.tolist() == [True] * 4 + [False] * 2


def test_sums_over_graphs_see_real_nodes_only(graphs):
    batch = pad_batch(graphs[:4], Bucket(nodes=80, edges=2048, graphs=6, pairs=1025), np.float32)
    sizes = [graph.num_nodes for graph in graphs[:4]]
    assert nodes_per_graph(batch).tolist() == sizes + [1, 1]
    assert sum_over_graphs(np.ones(80, np.float32), batch).tolist() == sizes + [0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_of_the_arrays_do_not_depend_on_the_content(graphs, dtype):
    batch = pad_batch(graphs[:1], Bucket(64, 2048, 2, 1025), dtype)
    for name in ("edge_vectors", "cell", "energy", "forces", "stress"):
        assert getattr(batch, name).dtype == dtype, name
    for name in ("species", "node_graph", "senders", "receivers", "edge_pair", "pair_edges"):
        assert getattr(batch, name).dtype == np.int32, name
    for name in ("node_mask", "edge_mask", "graph_mask", "energy_mask", "forces_mask", "stress_mask"):
        assert getattr(batch, name).dtype == bool, name


@pytest.mark.parametrize(
    "shrink", [dict(nodes=1), dict(edges=EDGE_BLOCK), dict(graphs=1), dict(pairs=1)], ids=["nodes", "edges", "graphs", "pairs"]
)
def test_graphs_that_do_not_fit_are_an_error(graphs, shrink):
    nodes, edges = sum(graph.num_nodes for graph in graphs[:4]), sum(graph.num_edge_slots for graph in graphs[:4])
    exact = dict(nodes=nodes + 1, edges=edges, graphs=5, pairs=sum(len(graph.pairs) for graph in graphs[:4]) + 1)
    assert pad_batch(graphs[:4], Bucket(**exact), np.float32).num_edges == edges
    with pytest.raises(ValueError, match="4 graphs with .* do not fit a batch of [0-9]+ graphs with [0-9]+ nodes, "):
        pad_batch(graphs[:4], Bucket(**{name: size - shrink.get(name, 0) for name, size in exact.items()}), np.float32)


def _loader(graphs, *, seed=0, shuffle=True, batch_size=4):
    buckets = choose_buckets(graphs, batch_size, seed=seed, shuffle=shuffle)
    return BatchLoader(graphs, batch_size, buckets, np.float64, seed=seed, shuffle=shuffle)


def _fingerprints(batches):
    """The sums of squares of each graph's forces, which tell the graphs apart."""
    return [np.round(np.array(sum_over_graphs((batch.forces**2).sum(1), batch))[batch.graph_mask], 3).tolist() for batch in batches]


def test_every_configuration_comes_once_per_epoch(graphs):
    loader = _loader(graphs)
    expected = sorted(np.round([(graph.forces**2).sum() for graph in graphs], 3).tolist())
    for epoch in range(3):
        batches = _fingerprints(loader.epoch(epoch))
        assert len(batches) == loader.num_batches == 8
        assert [len(batch) for batch in batches] == [4] * 7 + [2]
        assert sorted(sum(batches, [])) == pytest.approx(expected, abs=2e-3)


def test_order_depends_on_seed_and_epoch_alone(graphs):
    loader = _loader(graphs, seed=1)
    first = _fingerprints(loader.epoch(0))
    assert _fingerprints(loader.epoch(1)) != first
    assert _fingerprints(loader.epoch(0)) == first == _fingerprints(_loader(graphs, seed=1).epoch(0))
    assert _fingerprints(_loader(graphs, seed=2).epoch(0)) != first


def test_without_shuffling_batches_follow_the_file(graphs):
    batches = _fingerprints(_loader(graphs, shuffle=False).epoch(7))
    assert sum(batches, []) == pytest.approx([(graph.forces**2).sum() for graph in graphs], abs=2e-3)


def test_all_batches_take_the_shapes_of_the_buckets(graphs):
    loader = _loader(graphs)
    chosen = loader.buckets
    shapes = {(batch.num_nodes, batch.num_edges, batch.num_graphs, batch.num_pairs) for epoch in range(20) for batch in loader.epoch(epoch)}
    assert shapes == {(bucket.nodes, bucket.edges, bucket.graphs, bucket.pairs) for bucket in chosen}
    assert loader.buckets == chosen


def test_batch_that_fits_nowhere_gets_a_shape_of_its_own(graphs, caplog):
    caplog.set_level("INFO", logger="mace_tp")
    small = Bucket(nodes=40, edges=256, graphs=5, pairs=129)
    loader = BatchLoader(graphs, 4, [small], np.float64)

    batches = list(loader.epoch(0))

    assert sum(int(batch.graph_mask.sum()) for batch in batches) == len(graphs)
    assert loader.buckets[0] == small and len(loader.buckets) > 1
    assert caplog.text.count("fits no shape; adding one for up to ") == len(loader.buckets) - 1
    assert "Bucket(" not in caplog.text


def test_batch_of_too_many_pairs_gets_a_shape_of_its_own(graphs):
    roomy = Bucket(nodes=400, edges=8000, graphs=5, pairs=8)
    loader = BatchLoader(graphs, 4, [roomy], np.float64)
    assert sum(int(batch.edge_mask.sum()) for batch in loader.epoch(0)) == sum(graph.num_edges for graph in graphs)
    assert len(loader.buckets) == 2 and loader.buckets[1].pairs > 8


def test_empty_set_has_no_batches():
    loader = BatchLoader([], 4, [], np.float32)
    assert loader.num_batches == 0 and list(loader.epoch(0)) == []


def _batch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mace_tp_batches")]


def _wait_until_no_batch_threads():
    deadline = time.monotonic() + 5
    while _batch_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    return _batch_threads()


def test_abandoned_epoch_ends_its_thread(graphs):
    batches = _loader(graphs, batch_size=1).epoch(0)
    next(batches)
    assert _batch_threads()
    del batches
    assert not _wait_until_no_batch_threads()


def test_error_on_the_thread_reaches_the_consumer_in_its_place(graphs):
    broken = [*graphs[:9], None]
    batches = BatchLoader(broken, 1, choose_buckets(graphs, 1), np.float64, shuffle=False).epoch(0)
    for _ in range(9):
        next(batches)
    with pytest.raises(AttributeError):
        next(batches)
    assert not _wait_until_no_batch_threads()


def test_batches_are_prepared_ahead_but_not_all_at_once(graphs):
    prepared = []

    class Watched(BatchLoader):
        def _batch(self, indices):
            prepared.append(indices)
            return super()._batch(indices)

    batches = Watched(graphs, 1, choose_buckets(graphs, 1), np.float64).epoch(0)
    next(batches)
    time.sleep(0.2)
    assert 1 < len(prepared) < 10
