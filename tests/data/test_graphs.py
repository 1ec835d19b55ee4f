"""A graph has the displacements, labels and interaction energy of its configuration."""

import numpy as np
import pytest

from mace_tp.data.graphs import build_graphs
from mace_tp.data.neighbors import neighbor_list
from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.errors import InputError

CELL = np.array([[6.0, 0, 0], [2.0, 5.0, 0], [0, 1.0, 7.0]])


def _lengths(graph):
    return np.sort(graph.lengths())


def test_interaction_energy_is_what_the_atoms_alone_do_not_have(make_configuration):
    configuration = make_configuration(energy=-2067.25)
    (graph,) = build_graphs([configuration], (1, 8), (-13.5, -2040.0), 5.0)
    assert graph.interaction_energy == pytest.approx(-2067.25 + 2040.0 + 2 * 13.5, abs=1e-9)
    assert graph.species.tolist() == [1, 0, 0]
    assert (graph.num_nodes, graph.num_edges) == (3, 6)


def test_missing_labels_stay_missing(make_configuration):
    (graph,) = build_graphs([make_configuration(energy=None, forces=None)], (1, 8), (0.0, 0.0), 5.0)
    assert graph.interaction_energy is None and graph.forces is None and graph.stress is None


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, True), (True, True, False)], ids=["molecule", "crystal", "slab"])
def test_place_of_the_structure_does_not_matter(make_gas, make_configuration, pbc):
    gas = make_gas(12, seed=0)
    # Away from the origin, and every atom in another periodic image.
    images = np.random.default_rng(0).integers(-9, 9, (12, 3)) * np.array(pbc)
    moved = gas.positions + images @ CELL + 1e4

    here, there = build_graphs(
        [make_configuration([1] * 12, positions, CELL, pbc) for positions in (gas.positions, moved)], (1,), (0.0,), 3.0
    )

    assert here.num_edges == there.num_edges > 0
    np.testing.assert_allclose(_lengths(here), _lengths(there), atol=1e-9)
    assert np.abs(there.positions).max() < 20


def test_molecule_in_a_periodic_box_is_not_cut_by_its_walls(make_configuration):
    (graph,) = build_graphs([make_configuration(cell=100 * np.eye(3), pbc=(True, True, True))], (1, 8), (0.0, 0.0), 5.0)
    assert np.abs(graph.positions).max() < 2
    inside = graph.positions[graph.receivers] - graph.positions[graph.senders]
    np.testing.assert_array_equal(graph.edge_vectors, inside)


def test_cell_is_zero_where_nothing_is_periodic(make_configuration):
    molecule, slab = build_graphs(
        [make_configuration(cell=9 * np.eye(3), pbc=pbc) for pbc in ((False, False, False), (True, True, False))], (1, 8), (0.0, 0.0), 3.0
    )
    assert not molecule.cell.any()
    np.testing.assert_array_equal(slab.cell, 9 * np.eye(3))


def test_stress_without_a_volume_is_set_aside_with_a_warning(make_configuration, caplog):
    configuration = make_configuration(stress=np.eye(3), source="a.xyz frame 3")
    (graph,) = build_graphs([configuration], (1, 8), (0.0, 0.0), 3.0)
    assert graph.stress is None
    assert "the stress of 1 configurations is not used" in caplog.text and "a.xyz frame 3" in caplog.text


def test_element_that_the_model_does_not_know_is_an_error(make_configuration):
    with pytest.raises(InputError, match=r"a.xyz frame 3, atom 0: element O is not one of the model's \(H C\)"):
        build_graphs([make_configuration(source="a.xyz frame 3")], (1, 6), (0.0, 0.0), 3.0)


def test_slots_are_whole_blocks_and_hold_every_edge(make_gas):
    gas = make_gas(12, seed=0)
    (graph,) = build_graphs([gas], (1,), (0.0,), 3.0)
    senders, receivers, _, _ = neighbor_list(gas.positions, gas.cell, gas.pbc, 3.0)

    blocks = graph.receivers.reshape(-1, EDGE_BLOCK)
    assert (blocks == blocks[:, :1]).all()
    assert graph.num_edges == len(senders)
    np.testing.assert_array_equal(graph.senders[graph.edge_mask], senders)
    np.testing.assert_array_equal(graph.receivers[graph.edge_mask], receivers)
    assert (graph.senders == graph.receivers)[~graph.edge_mask].all()
