"""Pictures: they show the data, in the units that their labels say, and fit a README."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from mace_tp.data.graphs import build_graphs
from mace_tp.errors import InputError
from mace_tp.evaluation import parity_plots
from mace_tp.evaluation.batches import ConfigurationPrediction
from mace_tp.evaluation.parity_figures import parity, parity_figure
from mace_tp.evaluation.parity_plots import draw_parity
from mace_tp.run_directory import read_metrics
from mace_tp.training.plots import learning_curves, learning_curves_figure

SIZE_LIMIT = 200_000  # bytes


def records(count: int) -> list[dict]:
    """Errors that halve every ten epochs; an epoch takes a minute with its validation, the first an hour more of compilation."""
    return [
        {"epoch": epoch, "train_loss": 2.0 ** (-epoch / 10), "valid_loss": 2.0 ** (1 - epoch / 10),
         "force_rmse": 500 * 2.0 ** (-epoch / 10), "energy_rmse": 50 * 2.0 ** (-epoch / 10), "epoch_seconds": 50.0, "valid_seconds": 10.0,
         "compile_seconds": 3600.0 * (epoch == 1), "total_seconds": 3600 + 60.0 * epoch}
        for epoch in range(1, count + 1)
    ]  # fmt: skip


def written(tmp_path, lines: list[str]):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(lines))
    return path


# Reading


def test_read_metrics_leaves_out_a_torn_last_line(tmp_path):
    path = written(tmp_path, ['{"epoch": 1}\n', '{"epoch": 2, "train_loss": null}\n', '{"epoch": 3, "tra'])

    assert read_metrics(path) == [{"epoch": 1}, {"epoch": 2, "train_loss": None}]


def test_read_metrics_takes_the_later_of_epochs_that_were_done_twice(tmp_path):
    lines = [json.dumps({"epoch": epoch, "run": run}) + "\n" for run, epochs in ((1, (1, 2, 3, 4)), (2, (3, 4, 5))) for epoch in epochs]

    epochs_and_runs = [(record["epoch"], record["run"]) for record in read_metrics(written(tmp_path, lines))]

    assert epochs_and_runs == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


def test_read_metrics_names_the_line_that_is_damaged(tmp_path):
    path = written(tmp_path, ['{"epoch": 1}\n', '{"epo\n', '{"epoch": 3}\n'])

    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2: not a JSON object"):
        read_metrics(path)


def test_read_metrics_names_the_file_that_is_absent(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.jsonl: no such file"):
        read_metrics(tmp_path / "metrics.jsonl")


# Learning curves


def test_learning_curves_show_every_record():
    metrics = records(30)

    losses, forces, energies = learning_curves_figure(metrics).axes

    for axes, keys in ((losses, ("train_loss", "valid_loss")), (forces, ("force_rmse",)), (energies, ("energy_rmse",))):
        for line, key in zip(axes.lines, keys, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [record["epoch"] for record in metrics])
            np.testing.assert_array_equal(line.get_ydata(), [record[key] for record in metrics])
        assert axes.get_yscale() == "log"
    assert [axes.get_ylabel() for axes in (losses, forces, energies)] == ["loss", "force RMSE (meV/Å)", "energy RMSE (meV/atom)"]
    assert energies.get_xlabel() == "epoch"
    assert "lowest 62.5 meV/Å (epoch 30)" in forces.get_legend().get_texts()[0].get_text()


def test_ticks_are_whole_numbers_where_the_values_are_nearly_the_same():
    figure = learning_curves_figure([record | {"force_rmse": 1133.2 + 1e-3 * record["epoch"]} for record in records(3)])
    figure.savefig(io.BytesIO())
    assert all(axes.yaxis.get_offset_text().get_text() == "" for axes in figure.axes)


def test_the_time_of_training_stands_where_it_was_reached_without_compilation():
    figure = learning_curves_figure(records(30))
    (top,) = figure.axes[0].child_axes

    minutes = [float(label.get_text()) for label in top.get_xticklabels()]

    assert top.get_xlabel() == "time of training and validation, without compilation (min)" and len(minutes) > 3
    np.testing.assert_allclose(top.get_xticks(), minutes)


def test_no_seconds_no_time_of_training():
    assert learning_curves_figure([{"epoch": epoch, "train_loss": 1.0} for epoch in (1, 2)]).axes[0].child_axes == []


def test_stress_has_a_panel_where_it_is_trained():
    *_, stress = learning_curves_figure([record | {"stress_rmse": 10.0 / record["epoch"]} for record in records(10)]).axes

    assert stress.get_ylabel() == "stress RMSE (meV/Å³)" and stress.get_xlabel() == "epoch"
    np.testing.assert_array_equal(stress.lines[0].get_ydata(), [10.0 / epoch for epoch in range(1, 11)])


def test_second_stage_is_marked_where_it_starts():
    metrics = [record | {"stage": 1 + (record["epoch"] >= 8)} for record in records(10)]

    figure = learning_curves_figure(metrics)

    assert [list(axes.lines[-1].get_xdata()) for axes in figure.axes] == [[8, 8]] * 3
    assert "stage two, from epoch 8" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_error_without_labels_has_no_panel():
    metrics = [{name: value for name, value in record.items() if name != "energy_rmse"} for record in records(3)]

    assert [axes.get_ylabel() for axes in learning_curves_figure(metrics).axes] == ["loss", "force RMSE (meV/Å)"]


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
@pytest.mark.filterwarnings("error")
def test_learning_curves_of_any_length_are_written(tmp_path, count):
    learning_curves(records(count), tmp_path / "curves.png")

    assert 5_000 < (tmp_path / "curves.png").stat().st_size < SIZE_LIMIT


@pytest.mark.filterwarnings("error")
def test_numbers_that_were_not_finite_leave_gaps(tmp_path):
    metrics = records(5)
    metrics[2] |= {"train_loss": None, "force_rmse": None}
    metrics = [record | {"energy_rmse": None} for record in metrics]

    losses, forces = learning_curves_figure(metrics).axes
    learning_curves(metrics, tmp_path / "curves.png")

    assert list(np.isnan(losses.lines[0].get_ydata())) == list(np.isnan(forces.lines[0].get_ydata())) == [False, False, True, False, False]


# Parity


def pairs(count: int, error: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.linspace(-1, 1, count)
    return labels, labels + error * (-1.0) ** np.arange(count)


def test_few_points_are_shown_each():
    labels, predictions = pairs(100, 0.01)

    left, right = parity_figure(labels, predictions, "forces", "eV/Å", "valid").axes

    np.testing.assert_array_equal(left.collections[0].get_offsets(), np.stack([labels, predictions], axis=1))
    assert left.get_xlim() == left.get_ylim()
    np.testing.assert_array_equal(left.lines[0].get_xdata(), left.lines[0].get_ydata())
    assert left.texts[0].get_text() == "RMSE 10 meV/Å\nMAE 10 meV/Å\n100 values"
    assert (left.get_xlabel(), left.get_ylabel()) == ("reference forces (eV/Å)", "predicted forces (eV/Å)")
    assert "(meV/Å)" in right.get_xlabel()


def test_the_axis_of_energies_says_that_they_are_without_E0s(tmp_path, molecule, statistics, monkeypatch):
    """For those are what a graph holds: people know total energies, which are other numbers."""
    [graph] = build_graphs([molecule], statistics.atomic_numbers, statistics.atomic_energies, 4.0)
    drawn = {}
    monkeypatch.setattr(
        parity_plots, "parity", lambda labels, predictions, quantity, unit, path, title: drawn.update({path.name: quantity})
    )

    draw_parity([graph], [ConfigurationPrediction(0.0, np.zeros((4, 3)), None)], "test", tmp_path)

    assert drawn == {"parity_energy_test.png": "energy without E0s", "parity_forces_test.png": "forces"}


def test_many_points_are_shown_as_a_density_that_counts_them_all():
    left = parity_figure(*pairs(5000, 0.2), "forces", "eV/Å", "valid").axes[0]

    (cells,) = left.collections

    assert isinstance(cells, PolyCollection)
    assert cells.get_array().sum() == 5000


def test_rmse_and_mae_are_those_of_the_errors():
    errors = np.array([0.003, -0.004, 0.0, 0.005])

    text = parity_figure(np.zeros(4), errors, "energy", "eV/atom", "valid").axes[0].texts[0].get_text()

    assert text == "RMSE 3.54 meV/atom\nMAE 3 meV/atom\n4 values"


def test_histogram_counts_every_error_and_says_how_many_are_beyond_it():
    labels = np.zeros((500, 3))
    predictions = np.random.default_rng(0).normal(0, 0.01, labels.shape)
    predictions[0, 0], predictions[1, 1] = 50.0, -50.0

    right = parity_figure(labels, predictions, "forces", "eV/Å", "valid").axes[1]
    beyond = np.sum(1000 * abs(predictions) > right.get_xlim()[1])

    assert sum(bar.get_height() for bar in right.patches) == 1500
    assert right.get_xlim()[1] < 100, "an outlier does not squeeze the rest"
    assert right.get_title().startswith(f"{beyond} larger errors")


def test_few_errors_are_shown_each():
    labels, predictions = pairs(20, 0.01)

    right = parity_figure(labels, predictions, "energy", "eV/atom", "valid").axes[1]

    assert not right.patches, "no histogram"
    np.testing.assert_allclose(right.lines[0].get_xdata(), [-10.0] * 10 + [10.0] * 10)
    np.testing.assert_allclose(right.lines[0].get_ydata(), np.arange(1, 21) * 5)
    assert right.get_ylabel() == "share of values up to the error (%)" and right.get_xlabel() == "predicted - reference (meV/atom)"
    assert parity_figure(*pairs(100, 0.01), "energy", "eV/atom", "valid").axes[1].patches


def test_numbers_are_written_where_points_are_not():
    for error, place in ((0.5, (0.96, 0.04)), (-0.5, (0.04, 0.96))):
        left = parity_figure(np.zeros(5), np.full(5, error), "energy", "eV/atom", "valid").axes[0]
        assert left.texts[0].get_position() == place


def test_pairs_that_are_not_finite_are_left_out_and_counted():
    labels, predictions = np.zeros(10), np.full(10, 0.001)
    predictions[3], labels[5] = np.nan, np.inf

    figure = parity_figure(labels, predictions, "energy", "eV/atom", "valid")

    assert figure.get_suptitle() == "valid: energy (2 not finite, left out)"
    assert figure.axes[0].texts[0].get_text() == "RMSE 1 meV/atom\nMAE 1 meV/atom\n8 values"


EXTREMES = {
    "none": (np.zeros(0), np.zeros(0)),
    "one": (np.ones(1), np.ones(1)),
    "all equal": (np.zeros(3000), np.zeros(3000)),
    "diverged": (np.zeros(3000), np.geomspace(1e-3, 1e30, 3000)),
    "many": (np.sin(np.arange(200_000.0)), np.sin(np.arange(200_000.0)) + 0.1 * np.cos(np.arange(200_000.0) ** 2)),
}


@pytest.mark.parametrize("labels, predictions", EXTREMES.values(), ids=EXTREMES.keys())
@pytest.mark.filterwarnings("error")
def test_parity_of_anything_is_written(tmp_path, labels, predictions):
    parity(labels, predictions, "stress", "eV/Å³", tmp_path / "parity.png", r"a name with $\signs$")

    assert 5_000 < (tmp_path / "parity.png").stat().st_size < SIZE_LIMIT


def test_parity_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"same shape, got \(2,\) and \(3,\)"):
        parity_figure(np.zeros(2), np.zeros(3), "energy", "eV/atom", "valid")
    with pytest.raises(ValueError, match="start with eV, got kcal/mol"):
        parity_figure(np.zeros(2), np.zeros(2), "energy", "kcal/mol", "valid")


def test_plots_do_without_the_global_state_of_pyplot(tmp_path):
    program = """
import sys, numpy as np
from mace_tp.evaluation.parity_figures import parity
parity(np.zeros(3), np.zeros(3), "energy", "eV/atom", sys.argv[1], "valid")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "parity.png")], check=True)
