"""The report says what the data hold."""

import numpy as np
import pytest

from mace_tp.data.batching import choose_buckets
from mace_tp.data.graphs import build_graphs
from mace_tp.data.report import describe_batches, describe_parts
from mace_tp.data.statistics import compute_statistics
from mace_tp.edge_blocks import EDGE_BLOCK

E0 = {1: -13.5, 8: -2040.0}


def _report(configurations, valid=(), test=()):
    train, valid, test = (build_graphs(part, tuple(E0), tuple(E0.values()), 5.0) for part in (configurations, valid, test))
    statistics = compute_statistics(configurations, train, E0)
    parts = {"train": train, "valid": valid, "test hot.xyz": test}
    return describe_parts(parts, tuple(E0)) + describe_batches(train, statistics, choose_buckets(train, 2), 2)


@pytest.fixture
def water(make_configuration):
    return make_configuration(energy=E0[8] + 2 * E0[1] - 9.0, forces=np.full((3, 3), -0.5), source="a.xyz frame 0")


def test_report_says_what_the_data_hold(water, make_configuration):
    hydrogen = make_configuration([1, 1], [[0, 0, 0], [0, 0, 0.74]], energy=None, forces=np.array([[0, 0, 2.0], [0, 0, -2.0]]))
    text = "\n".join(_report([water, hydrogen], test=[hydrogen]))

    assert "train: 2 configurations, 5 atoms (2 to 3 each), elements H O" in text
    assert "labels: energy in 1 (missing in 1), forces in all, stress in none" in text
    assert "interaction energy E - ΣE0: -3.000 eV/atom" in text
    assert "forces: RMS 0.827 eV/Å, largest component 2.000 eV/Å" in text
    assert "shortest distance 0.740 Å, 1.6 neighbors per atom (1 to 2)" in text
    assert "valid: none" in text
    assert "test hot.xyz: 1 configurations, 2 atoms (2 each), elements H" in text
    # Five atoms with a block each fill five eighths of the shape, and hold eight edges.
    assert f"padded to 8 nodes x {8 * EDGE_BLOCK} edges; {1 - 1 / EDGE_BLOCK:.0%} of the edge slots are padding" in text


def test_report_shows_the_stress(make_configuration):
    cell, stress = 8 * np.eye(3), np.diag([0.03, 0.0, 0.0])
    text = "\n".join(_report([make_configuration(cell=cell, pbc=(True,) * 3, stress=stress), make_configuration()]))
    assert "stress: RMS 0.01 eV/Å³, largest component 0.03 eV/Å³" in text
    assert "stress: RMS" not in "\n".join(_report([make_configuration()]))


def test_report_of_lone_atoms_has_no_distance(make_configuration):
    text = "\n".join(_report([make_configuration([1], [[0, 0, 0]], energy=-13.5)]))
    assert "no two atoms within the cutoff, 0.0 neighbors per atom (0)" in text
