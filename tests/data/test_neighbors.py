"""Neighbor lists equal ASE's, for every kind of periodicity and cell, and hold where others crash."""

import ase
import ase.neighborlist
import numpy as np
import pytest

from mace_tp.data import neighbors
from mace_tp.data.neighbors import neighbor_list, wrap

CUTOFF = 3.0
CELLS = {
    "cubic": [[7.0, 0, 0], [0, 7.0, 0], [0, 0, 7.0]],
    "smaller than the cutoff": [[1.9, 0, 0], [0, 2.1, 0], [0, 0, 2.3]],
    "tilted": [[6.0, 0, 0], [4.5, 4.0, 0], [-3.0, 2.5, 5.0]],
    "sheared by more than a cell": [[3.0, 0, 0], [7.0, 3.0, 0], [0, 4.0, 3.5]],
    "left-handed": [[0, 6.0, 0], [5.0, 1.0, 0], [0, 0, 4.0]],
    "rotated": [[3.0, 4.0, 0], [-4.0, 3.0, 1.0], [1.0, 0.5, 6.0]],
}
PBC = [(bool(code & 4), bool(code & 2), bool(code & 1)) for code in range(8)]


def _edges(senders, receivers, displacements) -> np.ndarray:
    rows = np.column_stack([receivers, senders, displacements])
    return rows[np.lexsort(np.round(rows, 6).T[::-1])]


def _assert_equals_ase(positions, cell, pbc):
    # ASE wants a cell; what it is along a direction that is not periodic does not matter.
    atoms = ase.Atoms(numbers=np.ones(len(positions)), positions=positions, cell=cell, pbc=pbc)
    i, j, displacements = ase.neighborlist.primitive_neighbor_list(
        "ijD", pbc, atoms.cell.complete(), positions, CUTOFF, numbers=atoms.numbers, self_interaction=False
    )
    senders, receivers, shifts, _ = neighbor_list(positions, np.array(cell), pbc, CUTOFF)
    ours = _edges(senders, receivers, positions[receivers] - positions[senders] + shifts)
    np.testing.assert_allclose(ours, _edges(i, j, displacements), atol=1e-8)
    assert (np.diff(receivers) >= 0).all()


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("pbc", PBC, ids=lambda pbc: "".join("FT"[periodic] for periodic in pbc))
@pytest.mark.parametrize("spread", [1.0, 3.0], ids=["inside", "outside the cell"])
def test_edges_are_those_of_ase(cell, pbc, spread):
    rng = np.random.default_rng(PBC.index(pbc))
    positions = rng.uniform(-spread, 1 + spread, (12, 3)) @ np.array(cell)
    _assert_equals_ase(positions, cell, pbc)


@pytest.mark.parametrize("seed", range(30))
def test_edges_are_those_of_ase_in_random_cells(seed):
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) * 3
    while abs(np.linalg.det(cell)) < 5:
        cell = rng.normal(size=(3, 3)) * 3
    pbc = PBC[rng.integers(8)]
    cell[~np.array(pbc)] *= rng.integers(2)
    _assert_equals_ase(rng.normal(size=(rng.integers(1, 20), 3)) * 4, cell, pbc)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("pbc", PBC, ids=lambda pbc: "".join("FT"[periodic] for periodic in pbc))
def test_every_edge_has_a_reverse_to_the_last_bit(cell, pbc):
    positions = np.random.default_rng(PBC.index(pbc)).uniform(-1, 2, (12, 3)) @ np.array(cell)
    senders, receivers, shifts, reverse = neighbor_list(positions, np.array(cell), pbc, CUTOFF)
    displacements = positions[receivers] - positions[senders] + shifts
    np.testing.assert_array_equal(senders[reverse], receivers)
    np.testing.assert_array_equal(displacements[reverse], -displacements)
    np.testing.assert_array_equal(reverse[reverse], np.arange(len(senders)))
    assert (reverse != np.arange(len(senders))).all()


def test_edge_that_rounding_found_in_one_direction_only_is_dropped(monkeypatch):
    found = np.array([0, 1, 0]), np.array([1, 0, 0]), np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0]])
    monkeypatch.setattr(neighbors, "neighbour_list", lambda *_, **__: found)
    senders, receivers, shifts, reverse = neighbor_list(np.zeros((2, 3)), np.eye(3), (True, True, True), CUTOFF)
    assert senders.tolist() == [1, 0] and receivers.tolist() == [0, 1] and not shifts.any() and reverse.tolist() == [1, 0]


def test_lone_atom_sees_its_own_images_only():
    cubic = 2.0 * np.eye(3)
    senders, receivers, shifts, _ = neighbor_list(np.zeros((1, 3)), cubic, (True, True, True), 2.5)
    assert senders.tolist() == receivers.tolist() == [0] * 6
    np.testing.assert_allclose(np.linalg.norm(shifts, axis=1), 2.0)

    for pbc in PBC:
        senders, receivers, shifts, _ = neighbor_list(np.zeros((1, 3)), 10 * cubic, pbc, 2.5)
        assert len(senders) == len(receivers) == 0 and shifts.shape == (0, 3)


@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, False), (True, True, False)], ids=["molecule", "wire", "slab"])
def test_zero_vectors_are_allowed_where_nothing_repeats(pbc):
    cell = np.diag([4.0, 5.0, 6.0]) * np.array(pbc)[:, None]
    _assert_equals_ase(np.random.default_rng(0).uniform(0, 4, (10, 3)), cell, pbc)


@pytest.mark.parametrize("pbc", PBC, ids=lambda pbc: "".join("FT"[periodic] for periodic in pbc))
def test_edges_do_not_depend_on_the_origin(pbc):
    rng = np.random.default_rng(0)
    cell, positions = np.array(CELLS["tilted"]), rng.uniform(0, 6, (10, 3))

    here = neighbor_list(positions, cell, pbc, CUTOFF)
    there = neighbor_list(positions + 1e5, cell, pbc, CUTOFF)

    def edges(positions, senders, receivers, shifts, _):
        return _edges(senders, receivers, positions[receivers] - positions[senders] + shifts)

    np.testing.assert_allclose(edges(positions, *here), edges(positions + 1e5, *there), atol=1e-8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, False), (True, True, False)], ids=["molecule", "wire", "slab"])
def test_parts_that_lie_far_apart_keep_their_edges(pbc):
    cell = 7 * np.eye(3) * np.array(pbc)[:, None]
    part = np.random.default_rng(0).uniform(0, 7, (20, 3))
    away = 1e5 * ~np.array(pbc)

    one = neighbor_list(part, cell, pbc, CUTOFF)
    both = neighbor_list(np.vstack([part, part + away]), cell, pbc, CUTOFF)

    assert len(both[0]) == 2 * len(one[0]) > 0


def test_wrapping_moves_by_lattice_vectors_along_periodic_directions():
    cell = np.array(CELLS["tilted"])
    positions = np.random.default_rng(0).normal(size=(20, 3)) * 30
    moved = (wrap(positions, cell, (True, False, True)) - positions) @ np.linalg.inv(cell)
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-10)
    assert np.abs(moved[:, [0, 2]]).max() > 1 and np.abs(moved[:, 1]).max() < 1e-10
    np.testing.assert_array_equal(wrap(positions, cell, (False, False, False)), positions)


# Short vectors, and whole numbers of determinant one that make long ones at small angles of them.
SHORT = np.array([[3.5, 0.3, 0.0], [0.2, 3.1, 0.4], [0.1, -0.2, 4.0]])
LONG = {
    "crystal": ((True, True, True), [[49, 48, 35], [50, 49, -60], [0, 0, 1]]),
    "flat": ((True, True, True), [[1, 0, 0], [0, 1, 0], [-40, -60, 1]]),
    "slab": ((True, True, False), [[55, 48, 0], [63, 55, 0], [0, 0, 1]]),
}


def _images_examined(cell: np.ndarray) -> float:
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return np.prod(2 * np.ceil(CUTOFF / heights) + 1)


@pytest.mark.parametrize("pbc, whole_numbers", LONG.values(), ids=LONG)
def test_long_vectors_at_small_angles_cost_no_more_images_than_short_ones(pbc, whole_numbers, monkeypatch):
    boxes = []
    search = neighbors.neighbour_list
    monkeypatch.setattr(neighbors, "neighbour_list", lambda *what, **named: boxes.append(named["cell"]) or search(*what, **named))
    positions = np.random.default_rng(0).uniform(0, 3, (2, 3))
    long = np.array(whole_numbers) @ SHORT

    short_edges, long_edges = (neighbor_list(positions, cell, pbc, CUTOFF) for cell in (SHORT, long))

    def edges(senders, receivers, shifts, _):
        return _edges(senders, receivers, positions[receivers] - positions[senders] + shifts)

    np.testing.assert_allclose(edges(*long_edges), edges(*short_edges), atol=1e-8)
    assert len(long_edges[0]) > 0
    assert _images_examined(boxes[1]) <= 2 * _images_examined(SHORT), "of the cell that was searched"
    assert _images_examined(long) > 50 * _images_examined(boxes[1]), "without the reduction"


@pytest.mark.parametrize("pbc", PBC, ids=lambda pbc: "".join("FT"[periodic] for periodic in pbc))
def test_reduced_search_gives_the_images_of_the_cell_itself(pbc, monkeypatch):
    """The same edges, and the same whole numbers of lattice vectors, as a search in the cell as it is."""
    positions = np.random.default_rng(1).uniform(-9, 9, (4, 3))
    cell = np.array([[1, 0, 0], [2, 1, 0], [-3, 2, 1]]) @ SHORT

    def found():
        senders, receivers, images, _ = neighbors.neighbor_images(positions, cell, pbc, CUTOFF)
        rows = np.column_stack([receivers, senders, images])
        return rows[np.lexsort(rows.T[::-1])]

    reduced = found()
    monkeypatch.setattr(neighbors, "_reduction", lambda vectors: np.eye(len(vectors), dtype=np.int64))
    np.testing.assert_array_equal(reduced, found())


@pytest.mark.parametrize("angle", [60, 90, 120])
def test_cells_that_are_reduced_already_stay(angle):
    cell = 3 * np.array([[1, 0, 0], [np.cos(np.radians(angle)), np.sin(np.radians(angle)), 0], [0, 0, 2]])
    fcc = 2 * (1 - np.eye(3))
    for vectors in (cell, cell[:2], cell[:1], fcc):
        np.testing.assert_array_equal(neighbors._reduction(vectors), np.eye(len(vectors)))
