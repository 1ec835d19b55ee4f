"""A picture of the couplings of tensor products."""

from collections.abc import Mapping
from pathlib import Path

import e3nn_jax as e3nn
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mace_tp.benchmark.expressivity import BilinearReach
from mace_tp.plotting import DENSITY, DPI, VERMILLION

Pair = tuple[e3nn.Irrep, e3nn.Irrep]

_COLUMNS = 4  # panels side by side
_WEAKEST = 1e-2  # lower end of the color scale, relative to the largest coefficient


def draw_couplings(path: Path, reaches: Mapping[str, BilinearReach], title: str) -> None:
    """Draw a panel for each product: pairs of input irreps down, output irreps across, colored by the size of the coefficient.

    Args:
        path: of the PNG.
        reaches: {product: its couplings}, all between the same irreps.
        title: of the whole picture.
    """
    paths = next(iter(reaches.values())).paths
    pairs = list(dict.fromkeys((path.node, path.edge) for path in sorted(paths, key=lambda path: (path.node, path.edge))))
    outs = sorted({path.out for path in paths})
    columns = min(_COLUMNS, len(reaches))
    rows = -(-len(reaches) // columns)
    size = 1.4 + columns * max(1.6, 0.27 * len(outs) + 0.6), 1.2 + rows * max(1.5, 0.2 * len(pairs) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.flat[len(reaches) :]:
        axes.axis("off")
    images = []
    for axes, (name, reach) in zip(panels.flat, reaches.items(), strict=False):
        images.append(_draw(axes, reach, pairs, outs))
        axes.set_title(f"{name}\n{reach.num_coupled} of {len(paths)}, dof {reach.dof}", fontsize=9)
        axes.set_xticks(range(len(outs)), map(str, outs), fontsize=7, rotation=90)
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(pairs)), [f"{first} × {second}" for first, second in pairs], fontsize=7)
    figure.colorbar(images[-1], ax=panels, label="coefficient, relative to the largest", shrink=0.7, extend="min")
    figure.suptitle(f"{title}\ngray: forbidden by symmetry; ×: allowed, and absent", fontsize=9)
    figure.savefig(path, dpi=DPI)


def _draw(axes: Axes, reach: BilinearReach, pairs: list[Pair], outs: list[e3nn.Irrep]) -> AxesImage:
    strengths = np.full((len(pairs), len(outs)), np.nan)
    absent = []
    for path, strength in zip(reach.paths, reach.strengths, strict=True):
        cell = pairs.index((path.node, path.edge)), outs.index(path.out)
        if strength > 0:
            strengths[cell] = strength
        else:
            absent.append(cell)
    axes.set_facecolor("#dcdcdc")
    if absent:
        axes.scatter(*np.array(absent).T[::-1], marker="x", color=VERMILLION, s=28, linewidths=1.5)
    return axes.imshow(strengths, cmap=DENSITY, norm=LogNorm(_WEAKEST, 1), aspect="auto")
