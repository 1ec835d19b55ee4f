"""Random text and random structures: a result or one clear line, never a crash or wrong neighbors. More in the slow set."""

import string

import ase
import numpy as np
import pytest
from ase.neighborlist import primitive_neighbor_list
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mace_tp.data.configuration import Configuration, LabelKeys
from mace_tp.data.graphs import build_graphs
from mace_tp.data.neighbors import neighbor_list
from mace_tp.data.readers import read_configurations
from mace_tp.data.validation import check_configuration
from mace_tp.errors import InputError

FRAME = """3
Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy=-14.25 stress="1 0 0 0 1 0 0 0 1" pbc="T T F" tag="a b"
O 0.000000 0.000000 0.119000 0.100000 0.200000 0.300000
H 0.000000 0.763000 -0.477000 0.000000 0.000000 0.000000
H 0.000000 -0.763000 -0.477000 -0.100000 -0.200000 -0.300000
"""
WORDS = [
    "nan",
    "-inf",
    "*****",
    "1.0D+00",
    "1e400",
    "0",
    "-1",
    "3",
    "99999999999",
    "X",
    "Properties=",
    "pos:R:3",
    '"',
    "'",
    "{",
    "]",
    "=",
    "\t",
    "\n",
    "\r",
    "\x00",
    "µ",
]
FEW = settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(FEW, max_examples=5_000)


@st.composite
def spoiled_texts(draw) -> str:
    """Two frames with a few places overwritten, cut out or doubled."""
    text = 2 * FRAME
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from([0, 1, 3, 20, 80]))
        new = draw(
            st.one_of(st.just(""), st.sampled_from(WORDS), st.text(string.printable, max_size=8), st.just(text[start : start + length] * 2))
        )
        text = text[:start] + new + text[start + length :]
    return text


@st.composite
def structures(draw) -> tuple[np.ndarray, np.ndarray, tuple[bool, bool, bool]]:
    """Positions, cell and pbc of 2 to 40 atoms, in any cell, however skewed or small, also left-handed."""
    num_atoms = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = tuple(draw(st.booleans()) for _ in range(3))
    cell = rng.normal(size=(3, 3)) * rng.uniform(1.5, 8.0, size=(3, 1))
    # A flatter one has edges by the million.
    assume(np.linalg.svd(cell, compute_uv=False).min() > 0.7)
    for axis in range(3):
        if not pbc[axis] and draw(st.booleans()):
            cell[axis] = 0.0
    spread = draw(st.sampled_from([3.0, 10.0, 100.0]))
    return rng.uniform(-spread, spread, size=(num_atoms, 3)), cell, pbc


def _check_text(text: str, folder) -> None:
    path = folder / "frames.xyz"
    path.write_text(text, newline="")
    for skip_bad in (False, True):
        try:
            read = read_configurations(path, LabelKeys(), skip_bad=skip_bad)
        except InputError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            continue
        for frame in read:
            assert frame.num_atoms > 0 and np.isfinite(frame.positions).all()
            build_graphs([frame], tuple(range(1, 119)), (0.0,) * 118, 3.0)


def _check_structure(structure: tuple[np.ndarray, np.ndarray, tuple[bool, bool, bool]], cutoff: float = 3.0) -> None:
    positions, cell, pbc = structure
    numbers = np.ones(len(positions), int)
    try:
        check_configuration(Configuration(numbers, positions, cell, pbc, None, None, None, "", "memory frame 0"))
    except InputError as error:
        assert str(error).startswith("memory frame 0")
        return
    senders, receivers, shifts, reverse = neighbor_list(positions, cell, pbc, cutoff)
    np.testing.assert_array_equal(reverse[reverse], np.arange(len(reverse)))
    # ASE wants a cell; what it is along a direction that is not periodic does not matter.
    complete = ase.Atoms(cell=cell).cell.complete()
    expected = primitive_neighbor_list("ijD", pbc, complete, positions, cutoff)
    ours = senders, receivers, positions[receivers] - positions[senders] + shifts
    np.testing.assert_allclose(_inside(*ours, cutoff), _inside(*expected, cutoff), atol=1e-7)


def _inside(senders: np.ndarray, receivers: np.ndarray, vectors: np.ndarray, cutoff: float) -> np.ndarray:
    """Edges in one order; at the cutoff, where every function is zero, rounding decides, so that those are left out."""
    rows = np.column_stack([senders, receivers, vectors])[np.linalg.norm(vectors, axis=1) < cutoff - 1e-6]
    return rows[np.lexsort(np.round(rows, 5).T[::-1])]


@FEW
@example(FRAME[:-1])
@example(FRAME.replace("forces:R:3", "forces:R:99999999999"))
@given(text=spoiled_texts())
def test_spoiled_text_is_read_or_refused(tmp_path_factory, text):
    _check_text(text, tmp_path_factory.getbasetemp())


@FEW
@given(structure=structures())
def test_neighbors_are_those_of_ase(structure):
    _check_structure(structure)


@pytest.mark.slow
@MANY
@given(text=spoiled_texts())
def test_much_spoiled_text_is_read_or_refused(tmp_path_factory, text):
    _check_text(text, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@MANY
@given(structure=structures())
def test_neighbors_of_many_structures_are_those_of_ase(structure):
    _check_structure(structure)
