"""Checks of a structure before anything is computed from it."""

import numpy as np
from scipy.spatial import cKDTree

from mace_tp.data.configuration import Configuration
from mace_tp.data.elements import LAST, symbol
from mace_tp.data.labels import check_atoms_finite
from mace_tp.errors import InputError

# Å. Two atoms this close are one atom written twice: no chemistry goes below 0.3 Å.
SAME_PLACE = 1e-3
# Least singular value of the normalized lattice vectors; below it they are linearly dependent.
_FLAT = 1e-6


def check_configuration(configuration: Configuration) -> None:
    """Require known elements, finite positions, a usable cell and no two atoms at the same place.

    Raises:
        InputError: names the file, the frame and the atoms or the lattice vector.
    """
    source = configuration.source
    if configuration.num_atoms == 0:
        raise InputError(f"{source}: has no atoms; a frame needs at least one")
    unknown = (configuration.atomic_numbers < 1) | (configuration.atomic_numbers > LAST)
    if unknown.any():
        atom = int(np.argmax(unknown))
        raise InputError(
            f"{source}, atom {atom}: unknown element, atomic number {configuration.atomic_numbers[atom]}; valid are 1 to {LAST}"
        )
    check_atoms_finite(configuration.positions, "positions", source)
    _check_cell(configuration)
    _check_distinct(configuration)


def _check_cell(configuration: Configuration) -> None:
    source, periodic = configuration.source, np.array(configuration.pbc)
    vectors = configuration.cell[periodic]
    if not np.isfinite(configuration.cell).all():
        raise InputError(f"{source}: the cell (Lattice) holds a number that is not finite")
    lengths = np.linalg.norm(vectors, axis=1)
    if (lengths < SAME_PLACE).any():
        name = "abc"[np.flatnonzero(periodic)[np.argmin(lengths)]]
        advice = 'give its vector in Lattice, or say pbc="F F F" for a molecule'
        raise InputError(f"{source}: periodic along {name} but the lattice vector {name} is zero; {advice}")
    if len(vectors) and np.linalg.svd(vectors / lengths[:, None], compute_uv=False).min() < _FLAT:
        raise InputError(f"{source}: the periodic lattice vectors are linearly dependent; a cell needs independent vectors")


def _check_distinct(configuration: Configuration) -> None:
    pair = _coincident_pair(configuration)
    if pair is not None:
        names = " and ".join(f"{atom} ({symbol(int(configuration.atomic_numbers[atom]))})" for atom in pair)
        # The factor 2 tolerates rounding at SAME_PLACE; images are at least a lattice vector away.
        image = ", as periodic images" if _distance(configuration, *pair) > 2 * SAME_PLACE else ""
        raise InputError(f"{configuration.source}: atoms {names} are at the same place{image} (no more than {SAME_PLACE} Å apart)")


def _coincident_pair(configuration: Configuration) -> tuple[int, int] | None:
    """The first two atoms at most SAME_PLACE apart, including periodic images."""
    positions, periodic = configuration.positions, np.array(configuration.pbc)
    if not periodic.any():
        pairs = cKDTree(positions).query_pairs(SAME_PLACE, output_type="ndarray")
        return (int(pairs[0, 0]), int(pairs[0, 1])) if len(pairs) else None
    vectors = configuration.cell[periodic]
    # Along each periodic direction a fractional coordinate on a circle of length one, and the rest of the position in Å.
    inverse = np.linalg.pinv(vectors)
    fractions = positions @ inverse
    rest = positions - fractions @ vectors
    fractions %= 1.0
    fractions[fractions >= 1.0] = 0.0
    reach = SAME_PLACE * max(1.0, np.linalg.norm(inverse, 2))
    tree = cKDTree(np.hstack([fractions, rest]), boxsize=[1.0] * len(vectors) + [0.0] * 3)
    for first, second in tree.query_pairs(min(reach, 0.5), output_type="ndarray"):
        step = fractions[second] - fractions[first]
        away = (step - np.round(step)) @ vectors + rest[second] - rest[first]
        if np.linalg.norm(away) <= SAME_PLACE:
            return int(first), int(second)
    return None


def _distance(configuration: Configuration, first: int, second: int) -> float:
    return float(np.linalg.norm(configuration.positions[first] - configuration.positions[second]))
