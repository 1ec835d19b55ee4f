"""Names beside the points of a picture, where they cover neither points nor each other."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

_FONT_SIZE = 9
_MARK = 7.0  # pixels that a mark takes to each side of its middle
_STEP = 4.0  # pixels between the boxes along a line
# Directions from the point, most readable first, and distances in points; names that are further away get a line.
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
    """Write the name of every point beside it; call it last, since limits and layout must not change any more.

    Args:
        axes: holds the points.
        points: what to name.
        lines: corners of lines that names should not cross [corners, 2].

    Returns:
        Where the names are, in pixels.
    """
    figure = axes.figure
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
