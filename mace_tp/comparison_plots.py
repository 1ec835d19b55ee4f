"""Pictures of a comparison: validation errors against epochs and wall-clock, and what a step's time buys."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mace_tp.comparison import Group
from mace_tp.comparison_table import Row

# Okabe and Ito's palette, made to be told apart by everyone; after it, the same with broken lines.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", ":")
# Two more than colors, so that a color that comes again has another marker.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*")
# With more rows single seeds hide the medians.
_MOST_WITH_SEEDS = 5
_DPI = 100


def draw(folder: Path, groups: Sequence[Group], rows: Sequence[Row]) -> list[Path]:
    """Write `learning_curves.png` and `error_against_step.png`; return where they are."""
    figures = {"learning_curves.png": _learning_curves(groups), "error_against_step.png": _errors_against_steps(rows)}
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=_DPI)
    return [folder / name for name in figures]


def _learning_curves(groups: Sequence[Group]) -> Figure:
    """Force and energy RMSE of the validation set; thick lines are medians over the seeds, thin ones single seeds where rows are few."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    errors = {"force_rmse": "validation force RMSE (meV/Å)", "energy_rmse": "validation energy RMSE (meV/atom)"}
    for line, (key, label) in zip(panels, errors.items(), strict=True):
        for axes, x in zip(line, ("epoch", "total_seconds"), strict=True):
            for number, group in enumerate(groups):
                _draw_group(axes, group, x, key, number, len(groups) <= _MOST_WITH_SEEDS)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "235" else "")
            axes.tick_params(axis="y", which="minor", labelsize=8)
            axes.grid(alpha=0.3, which="both")
        line[0].set_ylabel(label)
    panels[1, 0].set_xlabel("epoch")
    panels[1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1, 1].set_xlabel("wall-clock since the command began (s)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=9, frameon=False)
    return figure


def _draw_group(axes: Axes, group: Group, x: str, key: str, number: int, with_seeds: bool) -> None:
    style = {"color": _COLORS[number % len(_COLORS)], "linestyle": _LINES[number // len(_COLORS) % len(_LINES)]}
    curves = [np.array([[r[x], r[key]] for r in run.records if r.get(key) is not None and r.get(x) is not None]) for run in group.runs]
    curves = [curve for curve in curves if len(curve)]
    if not curves:
        return
    if len(curves) > 1 and with_seeds:
        for curve in curves:
            axes.plot(*curve.T, linewidth=0.6, alpha=0.45, **style)
    shortest = min(map(len, curves))
    axes.plot(*np.median([curve[:shortest] for curve in curves], axis=0).T, linewidth=1.7, label=group.name, **style)


def _errors_against_steps(rows: Sequence[Row]) -> Figure:
    """Force RMSE of the validation set, with its deviation over the seeds, against the time of a step."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        if row.get("valid_force_rmse") is None or row["step_ms"] is None:
            continue
        style = {"color": _COLORS[number % len(_COLORS)], "marker": _MARKERS[number % len(_MARKERS)]}
        axes.errorbar(
            row["step_ms"], row["valid_force_rmse"], row["valid_force_rmse_std"] or 0.0, label=row["name"], capsize=3, ls="", **style
        )
    axes.set(xlabel="median time of a training step (ms)", ylabel="validation force RMSE (meV/Å)")
    axes.grid(alpha=0.3)
    axes.margins(0.1)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure
