"""Atomic energies from every source, and statistics against closed forms."""

import numpy as np
import pytest

from mace_tp.data.graphs import build_graphs
from mace_tp.data.statistics import atomic_energies, compute_statistics
from mace_tp.errors import InputError

E0 = {1: -13.5, 8: -2040.0}


@pytest.fixture
def mixture(make_configuration):
    """Water, hydrogen and oxygen molecules whose energies are sums over atoms exactly."""
    hydrogen = make_configuration([1, 1], [[0, 0, 0], [0, 0, 0.74]], energy=2 * E0[1])
    oxygen = make_configuration([8, 8], [[0, 0, 0], [0, 0, 1.2]], energy=2 * E0[8])
    return [make_configuration(energy=2 * E0[1] + E0[8]), hydrogen, oxygen]


def test_least_squares_recovers_energies_that_add_up(mixture, caplog):
    energies, line = atomic_energies("least_squares", mixture, {})
    assert energies == pytest.approx(E0, abs=1e-9)
    assert line == "atomic energies E0 (least squares over the training energies): H -13.5000, O -2040.0000 eV"
    assert not caplog.text


def test_least_squares_of_one_composition_is_the_smallest_and_warns(mixture, caplog):
    energies, _ = atomic_energies("least_squares", mixture[:1] * 3, {})
    total = 2 * E0[1] + E0[8]
    assert energies == pytest.approx({1: 2 * total / 5, 8: total / 5})
    assert "determine only 1 of the 2 atomic energies (H O)" in caplog.text


def test_isolated_energies_are_taken_for_the_elements_that_occur(mixture):
    energies, line = atomic_energies("isolated", mixture, E0 | {6: -1030.0})
    assert energies == E0 and list(energies) == [1, 8]
    assert "isolated atoms" in line


def test_mapping_gives_energies_by_symbol(mixture):
    energies, line = atomic_energies({"O": -2040, "H": -13.5, "C": 1.0}, mixture, {})
    assert energies == E0 and list(energies) == [1, 8]
    assert "data.atomic_energies" in line


@pytest.mark.parametrize(
    "choice, message",
    [
        ("isolated", "no isolated atom of O; .*data.atomic_energies=least_squares"),
        ("model", "data.atomic_energies=model: takes the E0s of model.init_from, which is not set"),
        ("average", "data.atomic_energies=average: must be isolated, least_squares, model, or a mapping"),
        ({"H": -13.5}, "no energy for O; the training set has H O"),
        ({"H": -13.5, "Oxygen": 1.0}, "unknown chemical symbol 'Oxygen'"),
        ({"H": -13.5, 8: 1.0}, "unknown chemical symbol 8"),
        ({"H": -13.5, "O": float("nan")}, "O is nan; must be a finite number"),
        ({"H": -13.5, "O": "-2040"}, "O is '-2040'; must be a finite number"),
    ],
)
def test_unusable_choices_are_errors(mixture, choice, message):
    with pytest.raises(InputError, match=message):
        atomic_energies(choice, mixture, {1: -13.5})


def test_least_squares_without_energies_is_an_error(make_configuration):
    with pytest.raises(InputError, match="no configuration has an energy"):
        atomic_energies("least_squares", [make_configuration(energy=None)], {})


def test_statistics_against_closed_forms(make_configuration):
    forces = np.array([[1.0, 0, 0], [0, 2.0, 0], [0, 0, -2.0]])
    labelled = make_configuration(energy=2 * E0[1] + E0[8] - 9.0, forces=forces)
    half = make_configuration([1, 1], [[0, 0, 0], [0, 0, 0.74]], energy=2 * E0[1] - 4.0, forces=None)
    bare = make_configuration([8], [[0, 0, 0]], energy=None, forces=None)
    configurations = [labelled, half, bare]
    graphs = build_graphs(configurations, tuple(E0), tuple(E0.values()), 5.0)

    statistics = compute_statistics(configurations, graphs, {8: E0[8], 1: E0[1]})

    assert statistics.atomic_numbers == (1, 8) and statistics.atomic_energies == (-13.5, -2040.0)
    assert statistics.avg_num_neighbors == pytest.approx((6 + 2 + 0) / 5)  # the bare atom does not count
    assert statistics.scale == pytest.approx(1.0)  # (1 + 4 + 4) / 9
    assert statistics.shift == pytest.approx((-3.0 - 2.0) / 2)


def test_statistics_are_neutral_where_nothing_is_known(make_configuration):
    for forces in (None, np.zeros((1, 3))):
        bare = [make_configuration([8], [[0, 0, 0]], energy=None, forces=forces)]
        statistics = compute_statistics(bare, build_graphs(bare, (8,), (0.0,), 5.0), {8: 0.0})
        assert (statistics.avg_num_neighbors, statistics.scale, statistics.shift) == (1.0, 1.0, 0.0)


def test_energies_of_the_model_that_a_training_starts_from(mixture):
    energies, origin = atomic_energies("model", mixture, {}, {1: -1.0, 6: -2.0, 8: -3.0})
    assert energies == {1: -1.0, 8: -3.0} and origin.startswith("atomic energies E0 (those of model.init_from): H -1.0000, O -3.0000")
    with pytest.raises(InputError, match="model.init_from does not know O; its elements are H"):
        atomic_energies("model", mixture, {}, {1: -1.0})
