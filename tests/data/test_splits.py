"""Splits are reproducible and complete; isolated atoms are recognized in both spellings."""

import pytest

from mace_tp.data.configuration import LabelKeys
from mace_tp.data.splits import read_isolated_atoms, separate_isolated_atoms, split
from mace_tp.errors import InputError


@pytest.fixture
def numbered(make_configuration):
    return [make_configuration(energy=float(index)) for index in range(20)]


def _energies(configurations):
    return [configuration.energy for configuration in configurations]


def test_split_is_a_partition_in_the_order_of_the_file(numbered):
    train, valid = split(numbered, 0.25, seed=3)
    assert len(train) == 15 and len(valid) == 5
    assert sorted(_energies(train) + _energies(valid)) == _energies(numbered)
    assert _energies(train) == sorted(_energies(train)) and _energies(valid) == sorted(_energies(valid))


def test_split_depends_on_the_seed_alone(numbered):
    # Written down: another machine or numpy must draw the same set.
    assert _energies(split(numbered, 0.25, seed=0)[1]) == [2.0, 3.0, 11.0, 13.0, 15.0]
    assert _energies(split(numbered, 0.25, seed=1)[1]) != _energies(split(numbered, 0.25, seed=0)[1])


@pytest.mark.parametrize("fraction, num_valid", [(0.0, 0), (0.001, 1), (0.999, 19)])
def test_neither_part_is_empty_unless_asked_for(numbered, fraction, num_valid):
    train, valid = split(numbered, fraction, seed=0)
    assert (len(train), len(valid)) == (20 - num_valid, num_valid)


def test_impossible_splits_are_errors(numbered):
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="valid_fraction=.*at least 0 and less than 1"):
            split(numbered, fraction, seed=0)
    with pytest.raises(InputError, match="a single configuration cannot be divided .*; give data.valid$"):
        split(numbered[:1], 0.1, seed=0)


def _atom(make_configuration, number, energy, config_type="", source="memory frame 0"):
    return make_configuration([number], [[0, 0, 0]], energy=energy, config_type=config_type, source=source)


def test_tagged_atoms_are_separated_in_both_spellings(make_configuration):
    water, untagged = make_configuration(), _atom(make_configuration, 6, -1030.0)
    tagged = [_atom(make_configuration, 1, -13.5, "IsolatedAtom"), _atom(make_configuration, 8, -2040.0, "isolated_atom")]

    rest, energies = separate_isolated_atoms([tagged[0], water, untagged, tagged[1]])

    assert rest == [water, untagged]
    assert energies == {1: -13.5, 8: -2040.0}


def test_unusable_isolated_atoms_are_errors(make_configuration):
    first = _atom(make_configuration, 1, -13.5, "IsolatedAtom")
    other = _atom(make_configuration, 1, -13.6, "IsolatedAtom", source="a.xyz frame 7")
    with pytest.raises(InputError, match="a.xyz frame 7: a second isolated H with another energy"):
        separate_isolated_atoms([first, other])
    with pytest.raises(InputError, match="memory frame 0: an isolated atom without an energy"):
        separate_isolated_atoms([_atom(make_configuration, 1, None, "IsolatedAtom")])
    with pytest.raises(InputError, match="tagged IsolatedAtom but has 3 atoms"):
        separate_isolated_atoms([make_configuration(config_type="IsolatedAtom")])


def test_file_of_isolated_atoms_needs_no_tags(tmp_path):
    path = tmp_path / "atoms.xyz"
    molecule = "2\nenergy=-31.0\nH 0 0 0\nH 0 0 0.74\n"
    path.write_text("1\nenergy=-13.5\nH 0 0 0\n1\nenergy=-2040.0 config_type=isolated_atom\nO 0 0 0\n" + molecule)
    assert read_isolated_atoms(path, LabelKeys(), 5.0) == {1: -13.5, 8: -2040.0}

    path.write_text(molecule)
    with pytest.raises(InputError, match="atoms.xyz: no frame with a single atom"):
        read_isolated_atoms(path, LabelKeys(), 5.0)


CRYSTAL = '1\nLattice="0 1.8 1.8 1.8 0 1.8 1.8 1.8 0" pbc="T T T" energy=0.02{tag}\nCu 0 0 0\n'
IN_A_BOX = '1\nLattice="12 0 0 0 12 0 0 0 12" pbc="T T T" energy=3.5{tag}\nCu 0 0 0\n'


def test_a_crystal_gives_no_energy_of_an_atom(tmp_path):
    path = tmp_path / "atoms.xyz"
    message = r"atoms.xyz frame 1: a crystal of Cu, whose periodic image is 2.55 Å away; .* within the cutoff of 5 Å"
    path.write_text("1\nenergy=-13.5\nH 0 0 0\n" + CRYSTAL.format(tag=""))
    with pytest.raises(InputError, match=message):
        read_isolated_atoms(path, LabelKeys(), 5.0)

    path.write_text(CRYSTAL.format(tag="") + IN_A_BOX.format(tag=""))
    assert read_isolated_atoms(path, LabelKeys(), 5.0) == {29: 3.5}
    with pytest.raises(InputError, match="frame 0: a crystal of Cu"):
        read_isolated_atoms(path, LabelKeys(), 12.5)

    path.write_text(CRYSTAL.format(tag=" config_type=IsolatedAtom"))
    with pytest.raises(InputError, match="frame 0: tagged IsolatedAtom but is a crystal, whose periodic image is 2.55 Å away"):
        read_isolated_atoms(path, LabelKeys(), 2.0)


def test_tagged_frames_decide_where_there_are_any(tmp_path):
    path = tmp_path / "atoms.xyz"
    path.write_text(CRYSTAL.format(tag=" config_type=bulk") + IN_A_BOX.format(tag=" config_type=IsolatedAtom"))
    assert read_isolated_atoms(path, LabelKeys(), 5.0) == {29: 3.5}
