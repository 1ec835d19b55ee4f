"""What is handed to an exported model: full neighbor lists pass, what would give wrong numbers in silence is refused in one line."""

import numpy as np
import pytest

from mace_tp.data.neighbors import neighbor_list
from mace_tp.errors import InputError
from mace_tp.model.export.inputs import checked


@pytest.fixture
def arguments(molecule):
    """Arguments that belong together, as a dictionary to spoil."""
    senders, receivers, shifts, _ = neighbor_list(molecule.positions, np.zeros((3, 3)), molecule.pbc, 4.0)
    return {
        "positions": molecule.positions, "atomic_numbers": molecule.atomic_numbers, "senders": senders, "receivers": receivers,
        "shifts": shifts, "cell": None,
    }  # fmt: skip


def _only(arguments: dict, keep: np.ndarray) -> dict:
    return arguments | {name: arguments[name][keep] for name in ("senders", "receivers", "shifts")}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_full_neighbor_lists_of_molecules_crystals_and_single_atoms_pass(molecule, crystal, lone_atom, dtype):
    for configuration in (molecule, crystal, lone_atom):
        senders, receivers, shifts, _ = neighbor_list(configuration.positions, configuration.cell, configuration.pbc, 4.0)
        positions = (configuration.positions + 50).astype(dtype)
        # As of a program that works out either direction of an edge by itself.
        shifts = (shifts + np.random.default_rng(0).uniform(-1e-6, 1e-6, shifts.shape)).astype(dtype)
        found = checked(positions, configuration.atomic_numbers, senders, receivers, shifts, configuration.cell)
        assert found.positions.dtype == np.float64 and len(found.senders) == len(senders)


def test_plain_lists_are_arrays_too_also_without_edges():
    for shifts in (np.zeros((0, 3)), []):
        assert checked([[0.0, 0, 0]], [8], [], [], shifts, None).senders.shape == (0,)


def test_edges_that_are_there_twice_are_refused(crystal):
    senders, receivers, shifts, _ = neighbor_list(crystal.positions, crystal.cell, crystal.pbc, 4.0)
    twice = {"senders": np.tile(senders, 2), "receivers": np.tile(receivers, 2), "shifts": np.tile(shifts, (2, 1))}
    with pytest.raises(InputError, match="edge .*: is there more than once"):
        checked(crystal.positions, crystal.atomic_numbers, **twice, cell=crystal.cell)


def test_half_a_neighbor_list_is_refused(arguments, crystal):
    with pytest.raises(InputError, match="edges of atom 0: .* full neighbor list"):
        checked(**_only(arguments, arguments["senders"] < arguments["receivers"]))
    # One atom in a cell: as many edges leave it as arrive, whatever the list leaves out.
    positions, numbers = crystal.positions[:1], crystal.atomic_numbers[:1]
    senders, receivers, shifts, reverse = neighbor_list(positions, crystal.cell, crystal.pbc, 4.0)
    half = np.arange(len(senders)) < reverse
    with pytest.raises(InputError, match="edges of atom 0: .* full neighbor list"):
        checked(positions, numbers, senders[half], receivers[half], shifts[half], crystal.cell)


def test_half_a_list_is_refused_where_the_edges_of_an_atom_cancel():
    rock_salt = 1.8 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    positions = np.array([[0.0, 0, 0], [1.8, 0, 0]])
    senders, receivers, shifts, _ = neighbor_list(positions, rock_salt, (True,) * 3, 2.0)
    checked(positions, [6, 8], senders, receivers, shifts, rock_salt)
    half = senders == 0
    with pytest.raises(InputError, match="edges of atom 0: .* full neighbor list"):
        checked(positions, [6, 8], senders[half], receivers[half], shifts[half], rock_salt)


def test_shifts_of_the_other_sign_are_refused(crystal):
    senders, receivers, shifts, _ = neighbor_list(crystal.positions, crystal.cell, crystal.pbc, 4.0)
    first = senders < receivers  # of these alone: the sign of all is a mirror image, whose edges have their reverses
    with pytest.raises(InputError, match="opposite shift"):
        checked(crystal.positions, crystal.atomic_numbers, senders, receivers, np.where(first[:, None], -shifts, shifts), crystal.cell)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("senders", lambda old: np.where(old == 3, 77, old), "senders: edge .* names atom 77, valid are 0 to 3"),
        ("receivers", lambda old: np.where(old == 3, -1, old), "receivers: edge .* names atom -1, valid are 0 to 3"),
        ("senders", lambda old: old.astype(float), "senders: is of type float64, must be integers"),
        ("senders", lambda old: old[:-1], r"senders: has the shape \[11\], must be \[12\]"),
        ("atomic_numbers", lambda old: np.append(old, 1), r"atomic_numbers: has the shape \[5\], must be \[4\]"),
        ("positions", lambda old: old * np.nan, "positions: holds numbers that are not finite"),
        ("positions", lambda old: [["a", "b", "c"]] * 4, "positions: is not an array of numbers"),
        ("positions", lambda old: [[0.0, 0, 0], [1.0]], "positions: is not an array of numbers"),
        ("senders", lambda old: [[0], [1, 2]], "senders: is not an array of numbers"),
        ("positions", lambda old: old[:0], "positions: there are no atoms"),
        ("positions", lambda old: np.where(np.arange(4)[:, None] == 1, old[0], old), "edge .*: has no length"),
        ("shifts", lambda old: old[:, :2], r"shifts: has the shape \[12, 2\], must be \[any number, 3\]"),
        ("cell", lambda old: np.ones(3), r"cell: has the shape \[3\], must be \[3, 3\]"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused_in_one_line(arguments, name, value, message):
    with pytest.raises(InputError, match=message) as error:
        checked(**arguments | {name: value(arguments[name])})
    assert "\n" not in str(error.value)
