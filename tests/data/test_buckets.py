"""Few shapes with little padding: one for equal molecules, several for ragged sizes."""

import numpy as np
import pytest

from mace_tp.data.buckets import Bucket, choose_buckets, estimated_padding, larger_bucket, select_bucket
from mace_tp.data.graphs import Graph
from mace_tp.data.order import epoch_order
from mace_tp.edge_blocks import EDGE_BLOCK


def _graph(num_nodes: int, num_edges: int) -> Graph:
    nodes, edges = np.zeros(num_nodes, np.int32), np.zeros(num_edges, np.int32)
    cell = np.zeros((3, 3))
    shifts, pairs = np.zeros((num_edges, 3)), np.zeros((num_edges // 2, 2), np.int32)
    return Graph(np.zeros((num_nodes, 3)), nodes, edges, edges, shifts, edges == 0, pairs, cell, None, None, None, "memory")


@pytest.fixture
def equal():
    rng = np.random.default_rng(0)
    return [_graph(27, 2 * int(rng.normal(225, 5))) for _ in range(200)]


@pytest.fixture
def ragged():
    rng = np.random.default_rng(0)
    return [_graph(nodes, nodes * (nodes - 1)) for nodes in np.minimum(8 + rng.exponential(15, 300), 80).astype(int)]


def test_equal_molecules_have_one_shape_with_little_padding(equal):
    (bucket,) = choose_buckets(equal, batch_size=5)
    assert bucket.nodes == 136 and bucket.graphs == 6 and bucket.edges % 32 == 0
    assert 0 <= estimated_padding(equal, [bucket], 5) < 0.05


def test_ragged_sizes_have_several_shapes_that_save_work(ragged):
    buckets = choose_buckets(ragged, batch_size=8)
    assert 2 <= len(buckets) <= 3
    one = choose_buckets(ragged, batch_size=8, max_buckets=1)
    assert len(one) == 1
    assert estimated_padding(ragged, buckets, 8) < 0.7 * estimated_padding(ragged, one, 8)


def test_shapes_ascend_and_hold_every_batch_of_their_loader(ragged):
    buckets = choose_buckets(ragged, batch_size=8, seed=3)
    assert all(low.nodes <= high.nodes and low.edges < high.edges for low, high in zip(buckets, buckets[1:], strict=False))
    assert all(bucket.nodes % 4 == 0 and bucket.edges % 32 == 0 for bucket in buckets)
    for epoch in range(100):
        order = epoch_order(len(ragged), seed=3, epoch=epoch, shuffle=True)
        for start in range(0, len(order), 8):
            batch = [ragged[index] for index in order[start : start + 8]]
            totals = np.sum([(graph.num_nodes, graph.num_edges, len(graph.pairs)) for graph in batch], axis=0)
            assert select_bucket(buckets, *totals)


def test_choice_is_a_pure_function_of_the_seed(ragged):
    first = choose_buckets(ragged, 8, seed=1)
    assert choose_buckets(ragged, 8, seed=1) == first != choose_buckets(ragged, 8, seed=2)


def test_batches_in_file_order_are_known_exactly():
    graphs = [_graph(40, 1600), _graph(40, 1600), _graph(4, 12), _graph(4, 12), _graph(4, 12), _graph(4, 12)]
    small, large = choose_buckets(graphs, batch_size=2, shuffle=False)
    assert (small.nodes, small.edges) == (12, 32) and (large.nodes, large.edges) == (84, 3200)
    assert estimated_padding(graphs, (small, large), 2, shuffle=False) == pytest.approx(1 - (3200 + 2 * 24) / (3200 + 2 * 32))


@pytest.mark.parametrize("num_graphs, batch_size", [(1, 1), (1, 10), (3, 2)])
def test_smallest_data_sets_have_a_shape(num_graphs, batch_size):
    (bucket,) = choose_buckets([_graph(1, 0)] * num_graphs, batch_size)
    assert bucket == Bucket(nodes=4, edges=32, graphs=batch_size + 1, pairs=8)


def test_expected_work_of_the_choice_is_the_least():
    """Two sizes, alone in a batch: shapes fit each of them exactly."""
    graphs = [_graph(7, 32)] * 60 + [_graph(31, 960)] * 30
    assert choose_buckets(graphs, batch_size=1) == (Bucket(8, 32, 2, 17), Bucket(32, 960, 2, 481))
    assert estimated_padding(graphs, choose_buckets(graphs, 1), 1) == 0


def test_shape_on_demand_has_room_for_others():
    top = Bucket(100, 1600, 6, 801)
    larger = larger_bucket([top], nodes=101, edges=300)
    assert larger == Bucket(128, 2016, 6, 1009)
    assert larger_bucket([top], nodes=500, edges=9000) == Bucket(504, 9024, 6, 4513)


def test_order_of_an_epoch_is_a_permutation_that_changes():
    orders = [epoch_order(50, seed=seed, epoch=epoch, shuffle=True) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert (orders[0] == orders[3]).all() and (orders[0] != orders[1]).any() and (orders[0] != orders[2]).any()
    assert epoch_order(3, seed=0, epoch=5, shuffle=False).tolist() == [0, 1, 2]
    # Written down: another machine or numpy must draw the same order.
    assert epoch_order(6, seed=1, epoch=2, shuffle=True).tolist() == [5, 3, 2, 1, 0, 4]


@pytest.mark.parametrize("graphs, batch_size, max_buckets", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_nothing_to_choose_from_is_an_error(graphs, batch_size, max_buckets):
    with pytest.raises(ValueError, match="need graphs, a batch size and a shape"):
        choose_buckets([_graph(1, 0)] * graphs, batch_size, max_buckets)


def test_shape_must_be_whole_blocks():
    with pytest.raises(ValueError, match=f"edges must be a multiple of {EDGE_BLOCK}, got {4 * EDGE_BLOCK + 1}"):
        Bucket(nodes=4, edges=4 * EDGE_BLOCK + 1, graphs=2, pairs=9)
