"""Plots of errors: histograms with a logarithmic count, and parity plots by element."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, NullFormatter

from mace_tp.plotting import (
    COLORS,
    DENSITY,
    FEW_VALUES,
    GRAY,
    SHARE,
    axis_limits,
    corner,
    draw_distribution,
    mean,
    num_values,
    plain,
    rms,
    summary,
    tick_label,
)  # fmt: skip

_FILL = "#C9CED6"
_DENSITY = ListedColormap(colormaps[DENSITY](np.linspace(0.2, 1, 256)))  # without the pale end, so that single values are visible on white
_MANY_COLUMNS = 4
_MAX_BINS = 61
_NUM_CELLS = 47  # along each axis; squares, because a picture of many hexagons has several times the bytes
# An axis reaches to the largest value, but at most to this factor times the 99 % quantile; logarithmic counts allow a larger factor.
_REACH, _PARITY_REACH = 6.0, 2.0


class Errors(NamedTuple):
    """Predicted minus reference."""

    quantity: str
    unit: str
    values: np.ndarray  # [...], in `unit`
    by_element: Mapping[str, np.ndarray]  # [...] each, by symbol; empty if errors are not divided by element


class Pairs(NamedTuple):
    """Forces on the atoms of one element, eV/Å."""

    labels: np.ndarray  # [...]
    predictions: np.ndarray  # [...]

    @property
    def errors(self) -> np.ndarray:
        """meV/Å."""
        return 1000 * (self.predictions - self.labels)


def histograms_figure(errors: Sequence[Errors], title: str) -> Figure:
    """A histogram for each quantity, side by side; for few values the cumulative distribution.

    Lines are elements: at most eight, those with the largest RMSE.
    """
    widths = [4.8 + bool(kind.by_element) for kind in errors]
    figure = Figure(figsize=(sum(widths), 4.2), layout="constrained")
    for axes, shown in zip(figure.subplots(1, len(errors), squeeze=False, width_ratios=widths)[0], errors, strict=True):
        _draw_histogram(axes, shown)
    figure.suptitle(f"{title}: errors, predicted - reference", parse_math=False)
    return figure


def parity_by_element_figure(pairs: Mapping[str, Pairs], title: str) -> Figure:
    """Predicted against reference forces, one panel per element: at most eight, those with the largest RMSE.

    Outliers beyond the axes are counted in the outermost cells, so that they do not squeeze the rest.

    Args:
        pairs: by symbol, in the order of the panels; at least one.
        title: of the whole plot, such as the name of the data set.
    """
    chosen = {name: pairs[name] for name in _largest({name: pair.errors for name, pair in pairs.items()})}
    shown = {name: _finite(pair) for name, pair in chosen.items()}
    columns = min(len(shown), _MANY_COLUMNS)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(0.9 + 2.8 * columns, 0.7 + 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    low, high = _limits(np.concatenate([values.ravel() for pair in shown.values() for values in pair]))
    cells = [_draw_element(axes, name, pair, (low, high)) for axes, (name, pair) in zip(panels, shown.items(), strict=False)]
    norm = LogNorm(vmin=1, vmax=max(10.0, *(part.get_array().filled(0).max() for part in cells)))
    for part in cells:
        part.set_norm(norm)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    bar = figure.colorbar(cells[0], ax=list(panels), label="number of values per cell", shrink=0.8, format=FuncFormatter(tick_label))
    bar.minorticks_off()
    figure.supxlabel("reference forces (eV/Å)", fontsize="medium")
    figure.supylabel("predicted forces (eV/Å)", fontsize="medium")
    notes = [f"the {len(shown)} of {len(pairs)} elements with the largest RMSE"] if len(shown) < len(pairs) else []
    if beyond := sum(int(_is_beyond(pair, low, high).sum()) for pair in shown.values()):
        notes.append(f"{beyond} beyond the axes, counted in the cells at their ends")
    if omitted := sum(pair.labels.size - shown[name].labels.size for name, pair in chosen.items()):
        notes.append(f"{omitted} not finite, left out")
    figure.suptitle(f"{title}: forces by element" + (f"\n{'; '.join(notes)}" if notes else ""), parse_math=False)
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of both axes, around the median."""
    if not len(values):
        return axis_limits(values)
    middle = np.median(values)
    reach = _reach(abs(values - middle), _PARITY_REACH)
    return axis_limits(np.clip(values, middle - reach, middle + reach))


def _is_beyond(pair: Pairs, low: float, high: float) -> np.ndarray:
    outside = [(values < low) | (values > high) for values in pair]
    return outside[0] | outside[1]


def _largest(errors: Mapping[str, np.ndarray]) -> list[str]:
    """The elements with the largest RMSE, in their given order."""
    worst = sorted(errors, key=lambda name: -np.nan_to_num(rms(errors[name]), nan=np.inf))[: len(COLORS)]
    return [name for name in errors if name in worst]


def _finite(pair: Pairs) -> Pairs:
    finite = np.isfinite(pair.labels) & np.isfinite(pair.predictions)
    return Pairs(pair.labels[finite], pair.predictions[finite])


def _draw_element(axes: Axes, name: str, pair: Pairs, limits: tuple[float, float]) -> AxesImage:
    axes.plot(limits, limits, color=GRAY, linewidth=1, linestyle="--", zorder=0.5)
    counts, _, _ = np.histogram2d(*(np.clip(values, *limits) for values in pair), bins=_NUM_CELLS, range=(limits, limits))
    image = np.ma.masked_equal(counts.T, 0)
    cells = axes.imshow(image, extent=(*limits, *limits), origin="lower", interpolation="nearest", cmap=_DENSITY)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_title(name, fontweight="bold")
    axes.locator_params(nbins=5)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(s=summary(pair.errors, "meV/Å"), transform=axes.transAxes, fontsize=8, bbox=box, **corner(*pair))
    return cells


def _draw_histogram(axes: Axes, errors: Errors) -> None:
    values = errors.values[np.isfinite(errors.values)]
    elements = _largest(errors.by_element)
    is_few = len(values) < FEW_VALUES
    reach = 1.05 * (np.abs(values).max(initial=0.0) or 1.0) if is_few else _reach(abs(values), _REACH)
    axes.axvline(0, color=GRAY, linewidth=1, linestyle="--")
    (_draw_few if is_few else _draw_counts)(axes, errors, values, elements, reach)
    axes.set(xlim=(-reach, reach), xlabel=f"error of {errors.quantity} ({errors.unit})", ylabel=SHARE if is_few else "number of values")
    axes.locator_params(axis="x", nbins=6)
    axes.set_title(_title(errors, values, int(np.sum(abs(values) > reach))), fontsize=10)
    if elements:
        axes.legend(
            fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0), title=f"RMSE ({errors.unit})", title_fontsize=9, frameon=False
        )


def _draw_few(axes: Axes, errors: Errors, values: np.ndarray, elements: Sequence[str], _: float) -> None:
    if not elements:
        draw_distribution(axes, values, COLORS[0], _label("all", values))
        return
    draw_distribution(axes, values, GRAY, _label("all", values), marker="")
    for name, color in zip(elements, COLORS, strict=False):
        part = errors.by_element[name]
        draw_distribution(axes, part[np.isfinite(part)], color, _label(name, part))


def _draw_counts(axes: Axes, errors: Errors, values: np.ndarray, elements: Sequence[str], reach: float) -> None:
    num_bins = min(11 + 2 * int(len(values) ** 0.5 / 2), _MAX_BINS)  # odd: one is centered at zero
    bins = np.linspace(-reach, reach, num_bins + 1)
    counts = _counts(values, bins)
    axes.stairs(counts, bins, fill=True, color=_FILL if elements else COLORS[0], label=_label("all", values))
    for name, color in zip(elements, COLORS, strict=False):
        part = errors.by_element[name]
        axes.stairs(_counts(part, bins), bins, color=color, linewidth=1.4, label=_label(name, part))
    axes.set_ylim(0.7, max(20, 1.4 * counts.max()))
    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_formatter(tick_label)
    axes.yaxis.set_minor_formatter(NullFormatter())


def _counts(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Counts per bin. Values beyond the bins count in the outermost ones, values that are not finite do not count."""
    return np.histogram(np.clip(values[np.isfinite(values)], bins[0], bins[-1]), bins)[0]


def _reach(sizes: np.ndarray, times: float) -> float:
    """End of the axis."""
    if not len(sizes) or not sizes.max():
        return 1.0  # no error at all is possible
    most = np.quantile(sizes, 0.99) or sizes.max()
    return 1.05 * float(min(sizes.max(), times * most))


def _label(name: str, values: np.ndarray) -> str:
    return f"{name}: {plain(rms(values[np.isfinite(values)]))}"


def _title(errors: Errors, values: np.ndarray, num_beyond: int) -> str:
    lines = [f"RMSE {plain(rms(values))}, MAE {plain(mean(abs(values)))} {errors.unit}, {num_values(values)}"]
    if num_beyond:
        lines.append(f"{num_beyond} beyond the axis, counted in the outermost bins")
    if len(values) < errors.values.size:
        lines.append(f"{errors.values.size - len(values)} not finite, left out")
    return "\n".join(lines)
