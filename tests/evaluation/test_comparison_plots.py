"""Pictures of a comparison: times without compilation, stage two, names beside the points, and bars of what an epoch costs."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.transforms import Bbox
from run_directories import make_run

from mace_tp.evaluation.comparison import find_runs, group_runs
from mace_tp.evaluation.comparison_plots import bars_figure, draw, errors_against_steps_figure, frontier, learning_curves_figure
from mace_tp.evaluation.comparison_table import make_rows
from mace_tp.plotting import Point, label_points

PRODUCTS = {"cg": (40.0, 0.030), "gaunt": (45.0, 0.022), "spherical_grid": (46.0, 0.020), "matrix": (50.0, 0.026)}


@pytest.fixture
def groups(tmp_path):
    for name, (error, seconds) in PRODUCTS.items():
        for seed in (0, 1):
            make_run(tmp_path / "runs" / f"{name}{seed}", name, seed=seed, force_rmse=error + seed, step_seconds=seconds)
    return group_runs(find_runs([tmp_path / "runs"]))


def _change_metrics(groups, change) -> None:
    for run in itertools.chain.from_iterable(group.runs for group in groups):
        run.records[:] = [record | change(record) for record in run.records]


def test_curves_are_drawn_against_the_time_of_training(groups):
    """`total_seconds` begins with 30 s of compilation: with them all curves look alike."""
    left, right, *_ = learning_curves_figure(groups).axes

    line = next(line for line in right.lines if line.get_label() == "cg")
    np.testing.assert_allclose(line.get_xdata(), np.arange(1, 4) * (90 * 0.030 + 0.1))
    lowest = learning_curves_figure(groups).axes[-1]
    assert lowest.get_xlabel() == "time of training and validation, without compilation (s)"
    assert left.get_ylabel() == "validation force RMSE (meV/Å)"


def test_stage_two_and_stress_are_shown_where_there_are(groups):
    assert len(learning_curves_figure(groups).axes) == 4, "no empty panel"
    _change_metrics(groups, lambda record: {"stress_rmse": 3.0, "stage": 1 + (record["epoch"] > 1)})

    figure = learning_curves_figure(groups)

    assert [axes.get_ylabel() for axes in figure.axes[::2]][-1] == "validation stress RMSE (meV/Å³)"
    assert "stage two begins" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert all(any(list(line.get_xdata()) == [2, 2] for line in axes.lines) for axes in figure.axes[::2])


def test_the_frontier_has_what_no_other_beats():
    assert frontier([(3.0, 1.0), (1.0, 4.0), (2.0, 2.0), (2.5, 3.0), (1.0, 5.0)]) == [1, 2, 0]
    assert frontier([(1.0, 1.0), (2.0, 2.0)]) == [0]


def test_points_have_their_names_and_the_frontier_is_a_line(groups):
    (axes,) = errors_against_steps_figure(make_rows(groups, None)).axes

    names = [text.get_text() for text in axes.texts if text.get_text()]
    assert sorted(names) == sorted(group.name for group in groups)
    line = next(line for line in axes.lines if line.get_label().startswith("no other row is both"))
    np.testing.assert_allclose(line.get_xdata(), [20, 22, 30])
    assert axes.get_xlabel() == "median time of a training step, with quartiles (ms)"


def test_names_cover_neither_each_other_nor_points():
    figure = Figure(figsize=(8, 5), layout="constrained", dpi=100)
    axes = figure.subplots()
    places = np.random.default_rng(0).normal(size=(12, 2))
    axes.plot(*places.T, "o")
    axes.margins(0.15)

    boxes = label_points(axes, [Point(*place, f"cg / spherical_grid rank={i}", "black") for i, place in enumerate(places)])

    for one, other in itertools.combinations(boxes, 2):
        assert Bbox.intersection(one, other) is None
    assert not any(box.contains(*axes.transData.transform(place)) for box in boxes for place in places)
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def test_seconds_per_epoch_stand_beside_the_errors(groups):
    seconds, forces, energies = bars_figure(make_rows(groups, None)).axes

    np.testing.assert_allclose(sorted(bar.get_width() for bar in seconds.patches), [1.8, 1.98, 2.34, 2.7])
    np.testing.assert_allclose(sorted(bar.get_width() for bar in forces.patches), [40.5, 45.5, 46.5, 50.5])
    assert [axes.get_xlabel() for axes in (seconds, forces)] == ["seconds per epoch", "validation force RMSE (meV/Å)"]
    assert [label.get_text() for label in seconds.get_yticklabels()] == [group.name for group in groups]
    assert energies.get_xlim()[0] == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", [{}, {"force_rmse": None, "energy_rmse": None}, {"force_rmse": None}])
def test_pictures_of_anything_are_written(groups, tmp_path, change):
    """Also of runs that have learnt nothing but energies, or kept no metrics."""
    _change_metrics(groups, lambda record: change)
    for run in groups[0].runs:
        run.records.clear()
    pictures = draw(tmp_path, groups, make_rows(groups, None))

    assert len(pictures) == 3 - ("energy_rmse" in change)
    assert all(imread(path).std() > 0.01 and path.stat().st_size < 200_000 for path in pictures)
