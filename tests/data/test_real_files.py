"""Published data sets read well: every frame, label, tag and cell of them."""

import time
from pathlib import Path

import numpy as np
import pytest

from mace_tp.data.batching import choose_buckets, estimated_padding
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.graphs import build_graphs
from mace_tp.data.readers import read_configurations
from mace_tp.data.splits import read_isolated_atoms, separate_isolated_atoms
from mace_tp.data.statistics import atomic_energies

SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the published data sets in ../shared/data, which do not ship")


@pytest.mark.parametrize(
    "name, num_frames, sizes, periodic, has_stress",
    [
        ("3bpa/train_300K.xyz", 500, (27, 27), False, False),
        ("rmd17/ethanol_train_01.extxyz", 1000, (9, 9), False, False),
        ("rmd17/aspirin_test_01.extxyz", 1000, (21, 21), False, False),
        ("silicon/Si_training.extxyz", 214, (12, 96), True, True),
        ("silicon/Si_test.extxyz", 25, (24, 64), True, True),
        ("solvents/solvent_train.xyz", 203, (1, 85), True, False),
        ("solvents/solvent_test.xyz", 200, (8, 75), True, False),
    ],
)
def test_every_frame_has_its_labels(name, num_frames, sizes, periodic, has_stress):
    configurations = read_configurations(SHARED / name, LabelKeys())
    counts = [configuration.num_atoms for configuration in configurations]
    assert len(configurations) == num_frames and (min(counts), max(counts)) == sizes
    for configuration in configurations:
        assert configuration.energy is not None and configuration.forces is not None
        assert configuration.pbc == (periodic,) * 3
        assert (configuration.stress is not None) == has_stress


def test_stress_written_as_text_is_the_matrix_of_the_file():
    stress = read_configurations(SHARED / "silicon/Si_training.extxyz", LabelKeys())[0].stress
    np.testing.assert_allclose(stress[0], [0.004107503988364278, -0.005671550665533216, 0.0033825764710596886], rtol=1e-14)
    np.testing.assert_array_equal(stress, stress.T)


def test_isolated_atoms_are_found_in_both_spellings_and_without_a_tag():
    rest, tagged = separate_isolated_atoms(read_configurations(SHARED / "solvents/solvent_train.xyz", LabelKeys()))
    assert len(rest) == 200 and sorted(tagged) == [1, 6, 8]
    assert tagged[1] == -10.707211383396714
    assert separate_isolated_atoms(read_configurations(SHARED / "rmd17/isolated_atoms.xyz", LabelKeys()))[0] == []
    for name in ("3bpa/iso_atoms.xyz", "rmd17/isolated_atoms.xyz"):
        assert sorted(read_isolated_atoms(SHARED / name, LabelKeys(), 5.0)) == [1, 6, 7, 8]


def test_interaction_energies_of_3bpa_are_those_of_bonds():
    configurations = read_configurations(SHARED / "3bpa/train_300K.xyz", LabelKeys())
    energies, _ = atomic_energies("isolated", configurations, read_isolated_atoms(SHARED / "3bpa/iso_atoms.xyz", LabelKeys(), 5.0))
    graphs = build_graphs(configurations, tuple(energies), tuple(energies.values()), 5.0)
    per_atom = np.array([graph.interaction_energy / graph.num_nodes for graph in graphs])
    assert (per_atom > -4.9).all() and (per_atom < -4.8).all()
    assert not any(graph.cell.any() for graph in graphs), "the 50 Å Lattice of a molecule is not a cell"


@pytest.mark.parametrize("name, num_buckets, padding", [("3bpa/train_300K.xyz", 1, 0.1), ("solvents/solvent_test.xyz", 3, 0.2)])
def test_shapes_of_published_data_waste_little(name, num_buckets, padding):
    configurations = read_configurations(SHARED / name, LabelKeys())
    elements = (1, 6, 7, 8)
    graphs = build_graphs(configurations, elements, (0.0,) * 4, 5.0)
    buckets = choose_buckets(graphs, 5)
    assert len(buckets) == num_buckets
    filled = sum(graph.num_edges for graph in graphs) / sum(graph.num_edge_slots for graph in graphs)
    behind = 1 - (1 - estimated_padding(graphs, buckets, 5)) / filled
    assert 0 <= behind < padding, "slots behind the blocks"


def test_reading_is_fast():
    start = time.process_time()
    read_configurations(SHARED / "3bpa/train_300K.xyz", LabelKeys())
    # 0.3 s were measured on one core; three times as much would be a loop gone wrong.
    assert time.process_time() - start < 1.0
