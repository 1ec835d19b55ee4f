"""Pairs of atoms within the cutoff, including periodic images."""

import functools
import itertools

import numpy as np
from matscipy.neighbours import neighbour_list
from scipy.spatial import cKDTree

# Å. Along a non-periodic direction, the search box ends this far outside the atoms.
_MARGIN = 1.0
# In cutoffs. A longer box costs matscipy more bins than it saves. Atoms outside the box are still found, in its outermost bins.
_MAX_BOX = 100.0
# A lattice vector is only replaced if it becomes shorter by this fraction: many cells, such as hexagonal ones, have several equal choices.
_SHORTER = 1e-6


def neighbor_list(
    positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, bool, bool], cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All edges shorter than the cutoff, each in both directions, sorted by receiver, then sender.

    Edges from an atom to its own periodic image are included. Positions may be outside the cell and far from the origin.

    Args:
        positions: [atoms, 3], Å.
        cell: [3, 3], Å, rows are lattice vectors of either handedness. Non-periodic rows are ignored.
        pbc: which lattice vectors repeat.
        cutoff: Å.

    Returns:
        senders [edges] int32, receivers [edges] int32, shifts [edges, 3] in Å, and the index of every edge's reverse [edges] int32.
        The displacement along an edge is positions[receivers] - positions[senders] + shifts. The displacement along its reverse is the
        opposite to the last bit.
    """
    senders, receivers, images, reverse = neighbor_images(positions, cell, pbc, cutoff)
    return senders, receivers, image_shifts(images, cell), reverse


def neighbor_images(
    positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, bool, bool], cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The edges of `neighbor_list`, with shifts as whole numbers of lattice vectors [edges, 3], float64."""
    positions = np.asarray(positions, np.float64)
    find = _periodic_edges if any(pbc) else _open_edges
    senders, receivers, images = find(positions, np.asarray(cell, np.float64), np.array(pbc, bool), cutoff)
    kept, reverse = _match_reverses(senders, receivers, images)
    senders, receivers, images = senders[kept], receivers[kept], images[kept].astype(np.float64)
    order = np.lexsort((senders, receivers))
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order))
    return senders[order].astype(np.int32), receivers[order].astype(np.int32), images[order], position[reverse[order]]


def image_shifts(images: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Shifts [edges, 3] in Å of images [edges, 3] in lattice vectors."""
    # Axis by axis, so that opposite images have opposite shifts to the last bit; a matrix product does not guarantee that.
    return sum(images[:, axis, None] * cell[axis] for axis in range(3))


def wrap(positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, bool, bool]) -> np.ndarray:
    """Move positions [atoms, 3], Å, by lattice vectors into the cell around the origin, along periodic directions only."""
    periodic = np.array(pbc, bool)
    if not periodic.any():
        return positions
    vectors = cell[periodic]
    return positions - np.round(positions @ np.linalg.pinv(vectors)) @ vectors


_Edges = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Senders [edges], receivers [edges], images [edges, 3] in lattice vectors, zero along non-periodic directions."""


def _open_edges(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> _Edges:
    # A tree needs no box, so the atoms may be any distance apart.
    pairs = cKDTree(positions).query_pairs(cutoff, output_type="ndarray")
    pairs = pairs[np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1) < cutoff]
    return pairs.ravel(), pairs[:, ::-1].ravel(), np.zeros((pairs.size, 3), np.int64)


def _periodic_edges(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> _Edges:
    # The search visits all images of the cell within the cutoff. A cell of long vectors at small angles has many thousands of them, so
    # the search uses shorter vectors of the same lattice.
    change = np.eye(3, dtype=np.int64)
    change[np.ix_(pbc, pbc)] = _reduction(cell[pbc])
    reduced = cell.copy()
    reduced[pbc] = change[np.ix_(pbc, pbc)] @ cell[pbc]
    box, origin = _search_box(positions, reduced, pbc, cutoff)
    senders, receivers, images = neighbour_list("ijS", cutoff=cutoff, positions=positions - origin, cell=box, pbc=pbc)
    return senders, receivers, images @ change


def _reduction(vectors: np.ndarray) -> np.ndarray:
    """Whole numbers M [n, n] of determinant one such that M @ vectors are short vectors of the same lattice; identity if they already are.

    As in the algorithms of Euclid and Gauss, the nearest whole multiples of the other vectors are subtracted from a vector until no
    vector becomes shorter.
    """
    change = np.eye(len(vectors), dtype=np.int64)
    shortened = not _is_reduced(vectors)
    while shortened:
        shortened = False
        for row in range(len(vectors)):
            rest = [other for other in range(len(vectors)) if other != row]
            for others in [rest, *([other] for other in rest if len(rest) > 1)]:
                multiples = np.round(change[row] @ vectors @ np.linalg.pinv(change[others] @ vectors)).astype(np.int64)
                trial = change[row] - multiples @ change[others]
                if np.linalg.norm(trial @ vectors) < (1 - _SHORTER) * np.linalg.norm(change[row] @ vectors):
                    change[row], shortened = trial, True
    return change


@functools.cache
def _signs(count: int) -> np.ndarray:
    """Signs [sums, count] of all sums of two or more vectors; zero for a vector that is not part of the sum."""
    signs = [signs for signs in itertools.product((-1, 0, 1), repeat=count) if np.count_nonzero(signs) > 1]
    return np.array(signs).reshape(-1, count)


def _is_reduced(vectors: np.ndarray) -> bool:
    """Whether no sum or difference of vectors is shorter than the longest vector in it (Minkowski)."""
    signs = _signs(len(vectors))
    squares = np.einsum("vi,vi->v", vectors, vectors)
    sums = signs @ vectors
    return bool((np.einsum("si,si->s", sums, sums) >= (1 - _SHORTER) ** 2 * (abs(signs) * squares).max(axis=1)).all())


def _match_reverses(senders: np.ndarray, receivers: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of edges found in both directions [kept edges], and the position of each one's reverse among them [kept edges].

    Exactly at the cutoff, rounding may find only one direction; such an edge does not count.
    """
    width = 2 * np.abs(images).max(initial=0) + 1
    num_atoms = max(senders.max(initial=0), receivers.max(initial=0)) + 1
    shape = (num_atoms, num_atoms, width, width, width)
    there = np.ravel_multi_index((senders, receivers, *(images + width // 2).T), shape)
    back = np.ravel_multi_index((receivers, senders, *(width // 2 - images).T), shape)
    kept = np.flatnonzero(np.isin(there, back))
    # The k-th smallest code of an edge equals the k-th smallest code of a reverse: sorting both matches them.
    reverse = np.empty(len(kept), np.int64)
    reverse[np.argsort(there[kept])] = np.argsort(back[kept])
    return kept, reverse


def _search_box(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """The cell with each non-periodic vector replaced by one that is orthogonal to all others and spans the atoms, and the box's origin."""
    box, origin = cell.copy(), np.zeros(3)
    # The last rows of V are an orthonormal basis of the space that the periodic vectors do not span.
    orthogonal = np.linalg.svd(cell[pbc])[2][pbc.sum() :]
    for row, direction in zip(np.flatnonzero(~pbc), orthogonal, strict=True):
        heights = positions @ direction
        length = min(np.ptp(heights) + 2 * _MARGIN, _MAX_BOX * cutoff)
        box[row] = length * direction
        origin += (heights.min() - _MARGIN) * direction
    return box, origin
