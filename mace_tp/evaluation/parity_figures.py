"""Parity plots: predictions against labels, and the distribution of the errors."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mace_tp.plotting import BLUE, DENSITY, DPI, FEW_VALUES, GRAY, SHARE, axis_limits, corner, draw_distribution, summary

_MANY_POINTS = 2000  # more are drawn as a density, because points would hide one another
_SHOWN_ERRORS = 0.995  # quantile of |error| inside the histogram; larger errors are counted in its outermost bins
_MAX_BINS = 61


def parity(labels: np.ndarray, predictions: np.ndarray, quantity: str, unit: str, path: Path, title: str) -> None:
    """Write the picture of `parity_figure`."""
    parity_figure(labels, predictions, quantity, unit, title).savefig(path, dpi=DPI)


def parity_figure(labels: np.ndarray, predictions: np.ndarray, quantity: str, unit: str, title: str) -> Figure:
    """Predictions against labels, and the distribution of the errors.

    Args:
        labels: [...], in `unit`; for energies per atom.
        predictions: same shape. Pairs with a number that is not finite are left out; the title has their count.
        quantity: name, such as "forces".
        unit: starts with eV; errors are shown in its thousandth.
        title: of the whole plot, such as the name of the data set.

    Raises:
        ValueError: the shapes differ, or the unit does not start with eV.
    """
    labels, predictions = np.asarray(labels, float), np.asarray(predictions, float)
    if labels.shape != predictions.shape:
        raise ValueError(f"labels and predictions must have the same shape, got {labels.shape} and {predictions.shape}")
    if not unit.startswith("eV"):
        raise ValueError(f"unit must start with eV, got {unit}")
    finite = np.isfinite(labels) & np.isfinite(predictions)
    labels, predictions = labels[finite], predictions[finite]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_parity(left, labels, predictions, quantity, unit)
    _draw_errors(right, 1000 * (predictions - labels), f"m{unit}")
    omitted = f" ({finite.size - len(labels)} not finite, left out)" if len(labels) < finite.size else ""
    figure.suptitle(f"{title}: {quantity}{omitted}", parse_math=False)
    return figure


def _draw_parity(axes: Axes, labels: np.ndarray, predictions: np.ndarray, quantity: str, unit: str) -> None:
    low, high = axis_limits(np.concatenate([labels, predictions]))
    axes.plot([low, high], [low, high], color=GRAY, linewidth=1, linestyle="--", zorder=0.5)
    if len(labels) > _MANY_POINTS:
        cells = axes.hexbin(labels, predictions, gridsize=90, extent=(low, high, low, high), mincnt=1, norm=LogNorm(vmin=1), cmap=DENSITY)
        axes.figure.colorbar(cells, ax=axes, label="number of values per cell", shrink=0.8)
    else:
        axes.scatter(labels, predictions, s=24 if len(labels) < FEW_VALUES else 9, color=BLUE, alpha=0.5, linewidths=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=f"reference {quantity} ({unit})", ylabel=f"predicted {quantity} ({unit})")
    axes.locator_params(nbins=6)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    axes.text(s=summary(1000 * (predictions - labels), f"m{unit}"), transform=axes.transAxes, bbox=box, **corner(labels, predictions))


def _draw_errors(axes: Axes, errors: np.ndarray, unit: str) -> None:
    if len(errors) < FEW_VALUES:
        draw_distribution(axes, errors, BLUE)
        axes.axvline(0, color=GRAY, linewidth=1, linestyle="--")
        axes.set(xlim=axis_limits(np.append(errors, 0.0)), xlabel=f"predicted - reference ({unit})", ylabel=SHARE)
        return
    reach = 1.1 * np.quantile(abs(errors), _SHOWN_ERRORS) if len(errors) else 0
    reach = reach or 1.0  # no error at all is possible
    num_bins = min(11 + 2 * int(len(errors) ** 0.5 / 2), _MAX_BINS)  # odd: one is centered at zero
    axes.hist(np.clip(errors, -reach, reach), bins=np.linspace(-reach, reach, num_bins + 1), color=BLUE)
    axes.axvline(0, color=GRAY, linewidth=1, linestyle="--")
    axes.locator_params(axis="x", nbins=6)
    axes.set(xlim=(-reach, reach), xlabel=f"predicted - reference ({unit})", ylabel="number of values")
    beyond = int(np.sum(abs(errors) > reach))
    if beyond:
        axes.set_title(f"{beyond} larger errors are counted in the outermost bins", fontsize=9)
