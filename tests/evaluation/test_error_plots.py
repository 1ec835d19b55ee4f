"""Pictures of errors in parts: they count every value, say whose it is, and fit a README."""

import dataclasses

import numpy as np
import pytest
from matplotlib.image import imread

from mace_tp.evaluation.error_plots import Errors, Pairs, histograms_figure, parity_by_element_figure
from mace_tp.evaluation.errors_by_group import ConfigurationErrors
from mace_tp.evaluation.parity_plots import draw_errors

SIZE_LIMIT = 200_000  # bytes


@pytest.fixture
def errors() -> Errors:
    """Forces of hydrogen, all 3 meV/Å too high, and of carbon, 4 too low."""
    parts = {"H": np.full(300, 3.0), "C": np.full(300, -4.0)}
    return Errors("force components", "meV/Å", np.concatenate(list(parts.values())), parts)


def test_histogram_counts_every_error_on_a_logarithmic_axis(errors):
    (axes,) = histograms_figure([errors], "valid").axes
    whole, hydrogen, carbon = (patch.get_data() for patch in axes.patches)

    assert [data.values.sum() for data in (whole, hydrogen, carbon)] == [600, 300, 300]
    assert axes.get_yscale() == "log"
    centers = (whole.edges[1:] + whole.edges[:-1]) / 2
    assert abs(centers[np.argmax(hydrogen.values)] - 3) < np.diff(whole.edges)[0]
    assert abs(centers[np.argmax(carbon.values)] + 4) < np.diff(whole.edges)[0]


def test_histogram_tells_rmse_and_mae_and_elements(errors):
    energies = Errors("energy", "meV/atom", np.array([3.0, -4.0, 0.0, 5.0]), {})

    left, right = histograms_figure([energies, errors], "valid").axes

    assert left.get_title() == "RMSE 3.54, MAE 3 meV/atom, 4 values" and left.get_legend() is None
    assert right.get_title() == "RMSE 3.54, MAE 3.5 meV/Å, 600 values"
    assert (left.get_xlabel(), right.get_xlabel()) == ("error of energy (meV/atom)", "error of force components (meV/Å)")
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["all: 3.54", "H: 3", "C: 4"]


def test_few_errors_are_shown_each(errors):
    few = {name: values[:9] for name, values in errors.by_element.items()}
    energies = Errors("energy", "meV/atom", np.array([3.0, -4.0, np.nan, 5.0]), {})

    left, right = histograms_figure([energies, Errors("force components", "meV/Å", np.concatenate([*few.values()]), few)], "valid").axes

    assert not left.patches and not right.patches, "no histograms"
    np.testing.assert_allclose(left.lines[-1].get_xdata(), [-4, 3, 5])
    np.testing.assert_allclose(left.lines[-1].get_ydata(), [100 / 3, 200 / 3, 100])
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["all: 3.54", "H: 3", "C: 4"]
    assert all(len(line.get_xdata()) == 9 for line in right.lines[-2:])


def test_an_outlier_is_counted_and_does_not_squeeze_the_rest():
    values = np.append(np.random.default_rng(0).normal(size=1000), [1e6, np.nan])

    (axes,) = histograms_figure([Errors("energy", "meV/atom", values, {})], "valid").axes

    assert axes.get_xlim()[1] < 30
    assert axes.patches[0].get_data().values.sum() == 1001
    assert axes.get_title().splitlines()[1:] == ["1 beyond the axis, counted in the outermost bins", "1 not finite, left out"]


def test_parity_by_element_has_a_panel_for_each_that_counts_its_values():
    pairs = {"H": Pairs(np.linspace(-1, 1, 50), np.linspace(-1, 1, 50)), "Cu": Pairs(np.linspace(-1, 1, 70), np.linspace(-1, 1, 70) + 0.1)}

    hydrogen, copper, _ = parity_by_element_figure(pairs, "valid").axes

    assert (hydrogen.get_title(), copper.get_title()) == ("H", "Cu")
    assert [axes.images[0].get_array().sum() for axes in (hydrogen, copper)] == [50, 70]
    assert copper.texts[0].get_text() == "RMSE 100 meV/Å\nMAE 100 meV/Å\n70 values"
    rows, columns = np.nonzero(copper.images[0].get_array().filled(0))
    assert copper.images[0].origin == "lower" and (rows >= columns).all() and (rows > columns).any(), "predictions are upward"


def test_parity_by_element_counts_outliers_at_the_ends_of_the_axes_and_tells_what_is_not_finite():
    labels = np.random.default_rng(0).normal(size=1000)
    predictions = labels + 0.01
    predictions[:3], predictions[3], predictions[4] = (1e6, np.nan, np.inf), 50.0, -70.0
    pairs = {"H": Pairs(labels, predictions), "O": Pairs(labels, labels)}

    figure = parity_by_element_figure(pairs, "valid")

    hydrogen, oxygen, _ = figure.axes
    assert oxygen.get_xlim() == hydrogen.get_ylim() and oxygen.get_xlim()[1] < 8, "outliers do not squeeze the rest"
    assert [axes.images[0].get_array().sum() for axes in (hydrogen, oxygen)] == [998, 1000]
    assert hydrogen.images[0].get_array().filled(0)[-1].sum() == 2
    notes = "3 beyond the axes, counted in the cells at their ends; 2 not finite, left out"
    assert figure.get_suptitle() == f"valid: forces by element\n{notes}"


def test_a_single_value_is_one():
    figure = histograms_figure([Errors("energy", "meV/atom", np.array([3.0]), {})], "valid")

    assert figure.axes[0].get_title() == "RMSE 3, MAE 3 meV/atom, 1 value"


def test_of_many_elements_those_with_the_largest_errors_are_shown():
    pairs = {f"E{i}": Pairs(np.zeros(3), np.full(3, 0.1 * (i % 10))) for i in range(20)}

    figure = parity_by_element_figure(pairs, "valid")

    assert [axes.get_title() for axes in figure.axes[:8]] == ["E6", "E7", "E8", "E9", "E16", "E17", "E18", "E19"]
    assert figure.get_suptitle() == "valid: forces by element\nthe 8 of 20 elements with the largest RMSE"


def _fill(crystal, count: int, scale: float) -> list[ConfigurationErrors]:
    rng = np.random.default_rng(0)
    return [
        ConfigurationErrors(
            dataclasses.replace(crystal, forces=rng.uniform(-1, 1, (3, 3))),
            scale * rng.normal(), scale * rng.uniform(-1, 1, (3, 3)), scale * rng.normal(size=(3, 3)),
        )
        for _ in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("count, scale", [(1, 0.0), (1, 0.1), (5000, 2.0), (50, 1e30), (3, np.nan)])
@pytest.mark.filterwarnings("error")
def test_pictures_of_any_errors_are_written_and_not_blank(tmp_path, crystal, count, scale):
    draw_errors(_fill(crystal, count, scale), r"a name with $\signs$", tmp_path)

    pictures = list(tmp_path.iterdir())
    assert {path.name.split("_")[0] for path in pictures} == {"errors", "parity"}
    for path in pictures:
        assert 5_000 < path.stat().st_size < SIZE_LIMIT
        assert 0.01 < np.mean(imread(path)[..., :3].min(axis=-1) < 0.9) < 0.9, "neither white nor full"


def test_nothing_labelled_gives_no_picture(tmp_path, crystal):
    draw_errors([ConfigurationErrors(crystal, None, None, None)], "valid", tmp_path)

    assert list(tmp_path.iterdir()) == []
