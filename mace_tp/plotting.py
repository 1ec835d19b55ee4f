"""Shared parts of all plots: colors, resolution, scales, formats of numbers, names beside points."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

# Okabe and Ito's palette, which people with any color vision can tell apart, and a brown in place of its yellow, which is pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
BLUE, VERMILLION, GRAY = COLORS[0], COLORS[1], "#777777"
# One more than colors, so that a color used again has another marker.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*")
DENSITY = "cividis_r"  # color map, even in lightness
DPI = 120  # 9 inches make 1080 pixels: sharp at 900, and 2000 noisy epochs fit into 200 kB
FEW_VALUES = 100  # a histogram of fewer values would show its bins rather than the values
SHARE = "share of values up to the error (%)"

_LOG_RANGE = 3.0  # values that span less than this factor are read more easily on a linear axis
_FONT_SIZE = 9
_MARK = 7.0  # half the size of a mark, pixels
_STEP = 4.0  # pixels between the boxes along a line
# Directions from the point, most readable first, and distances in points; more distant names get a connecting line.
_DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
_DISTANCES = (7, 13, 20, 32, 48, 66)
_ALIGNMENTS = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}


class Point(NamedTuple):
    """A named point in the units of the axes."""

    x: float
    y: float
    name: str
    color: str


def label_points(axes: Axes, points: Sequence[Point], lines: Sequence[np.ndarray] = ()) -> list[Bbox]:
    """Write the name of every point beside it. Call this last, because limits and layout must not change afterwards.

    Args:
        axes: holds the points.
        points: the points to name.
        lines: corners [corners, 2] of lines that names should not cross.

    Returns:
        Boxes of the names, in pixels.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    inside = axes.get_window_extent(renderer)
    middles = [axes.transData.transform((point.x, point.y)) for point in points]
    taken = [Bbox.from_bounds(x - _MARK, y - _MARK, 2 * _MARK, 2 * _MARK) for x, y in middles]
    taken += [box for line in lines for box in _boxes_along(axes.transData.transform(line))]
    boxes = []
    for point in sorted(points, key=lambda point: (point.y, point.x)):
        style = {"fontsize": _FONT_SIZE, "color": point.color, "linespacing": 1.0}
        text = axes.annotate(point.name, (point.x, point.y), xytext=(0, 0), textcoords="offset points", **style)
        text.set_in_layout(False)
        costs = {}
        for distance, (right, up) in itertools.product(_DISTANCES, _DIRECTIONS):
            place = (distance * right, distance * up), _ALIGNMENTS[right][0], _ALIGNMENTS[up][1]
            text.set(position=place[0], ha=place[1], va=place[2])
            costs.setdefault(_cost(text.get_window_extent(renderer), inside, taken), place)
            if 0.0 in costs:
                break
        offset, ha, va = costs[min(costs)]
        text.set(position=offset, ha=ha, va=va)
        boxes.append(text.get_window_extent(renderer))
        taken.append(boxes[-1])
        if max(map(abs, offset)) > _DISTANCES[1]:
            style = {"arrowstyle": "-", "color": point.color, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            axes.annotate("", (point.x, point.y), xytext=offset, textcoords="offset points", arrowprops=style).set_in_layout(False)
    return boxes


def _boxes_along(corners: np.ndarray) -> list[Bbox]:
    """Small boxes that cover a line, in pixels."""
    boxes = []
    for start, end in itertools.pairwise(corners):
        number = 2 + int(np.linalg.norm(end - start) / _STEP)
        boxes += [Bbox.from_bounds(x - _STEP / 2, y - _STEP / 2, _STEP, _STEP) for x, y in np.linspace(start, end, number)]
    return boxes


def _cost(box: Bbox, inside: Bbox, taken: Sequence[Bbox]) -> float:
    """Area of the box that overlaps other boxes, plus its area outside the axes with a larger weight."""
    shared = [Bbox.intersection(box, other) for other in taken]
    within = Bbox.intersection(box, inside)
    outside = box.width * box.height - (within.width * within.height if within else 0.0)
    return sum(part.width * part.height for part in shared if part) + 4 * outside


def plain(value: float) -> str:
    """Format a number with at least three significant digits, and with an exponent only where people would write one."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"


def tick_label(value: float, _: float) -> str:
    """A number at an axis, without trailing zeros; a formatter of matplotlib."""
    return f"{value:g}"


def fit_scale(axes: Axes, values: np.ndarray) -> None:
    """Make the vertical axis logarithmic, with readable ticks, if the values span a large enough range."""
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values) or values.max() / values.min() <= _LOG_RANGE:
        axes.ticklabel_format(axis="y", useOffset=False)  # full numbers at the ticks, no "+1.1332e3" above the axis
        return
    decades = np.log10(values.max() / values.min())
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(tick_label))


def time_unit(seconds: float) -> tuple[int, str]:
    """(length in seconds, name) of the unit for a time of this order."""
    return next((length, unit) for length, unit in ((3600, "h"), (60, "min"), (1, "s")) if seconds > 3 * length or length == 1)


def corner(labels: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
    """Place of a text in a parity plot: the side of the diagonal with fewer points."""
    if np.sum(predictions > labels) > np.sum(predictions < labels):
        return {"x": 0.96, "y": 0.04, "ha": "right", "va": "bottom"}
    return {"x": 0.04, "y": 0.96, "ha": "left", "va": "top"}


def draw_distribution(axes: Axes, errors: np.ndarray, color: str, label: str | None = None, marker: str = "o") -> None:
    """Draw the cumulative distribution of errors in %, with a mark for each error, so that few values are all visible."""
    errors = np.sort(errors)
    shares = 100 * np.arange(1, len(errors) + 1) / max(len(errors), 1)
    axes.step(errors, shares, where="post", color=color, linewidth=1.2, marker=marker, markersize=3.5, label=label)
    axes.set_ylim(0, 104)
    axes.grid(alpha=0.3)
    axes.locator_params(axis="x", nbins=6)


def summary(errors: np.ndarray, unit: str) -> str:
    """Three lines: RMSE, MAE, number of values."""
    return f"RMSE {plain(rms(errors))} {unit}\nMAE {plain(mean(abs(errors)))} {unit}\n{num_values(errors)}"


def num_values(values: np.ndarray) -> str:
    """The number of values as text."""
    return "1 value" if values.size == 1 else f"{values.size} values"


def axis_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis: all values and a margin, never an empty range."""
    if not len(values):
        return 0.0, 1.0
    margin = 0.04 * (values.max() - values.min()) or max(1e-3, 1e-6 * abs(values.max()))
    return values.min() - margin, values.max() + margin


def mean(values: np.ndarray) -> float:
    """The mean; NaN if there are no values."""
    return float(np.mean(values)) if len(values) else np.nan


def rms(values: np.ndarray) -> float:
    """Root mean square; NaN if there are no values."""
    return mean(values**2) ** 0.5
