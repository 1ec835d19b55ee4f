"""Plots of a comparison: validation errors during the trainings, and errors against the time of a step and of an epoch."""

import itertools
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mace_tp.evaluation.comparison import Group, Run
from mace_tp.evaluation.comparison_table import Row
from mace_tp.plotting import COLORS, DPI, GRAY, MARKERS, Point, fit_scale, label_points, plain, time_unit
from mace_tp.run_directory import record_values, second_stage, training_seconds

# Lines of the rows beyond the first eight, which use the colors again, are broken.
_LINES = ("-", "--", ":")
# With more rows, curves of single seeds would hide the medians.
_MOST_WITH_SEEDS = 5
_NAME_WIDTH = 34  # characters of a line of a row's name
_COURSES = {"force_rmse": "meV/Å", "energy_rmse": "meV/atom", "stress_rmse": "meV/Å³"}
_BARS = {
    "seconds_per_epoch": "seconds per epoch",
    "valid_force_rmse": "validation force RMSE (meV/Å)",
    "valid_energy_rmse_per_config": "validation energy RMSE (meV)",
    "valid_stress_rmse": "validation stress RMSE (meV/Å³)",
}


def draw(folder: Path, groups: Sequence[Group], rows: Sequence[Row]) -> list[Path]:
    """Write `learning_curves.png`, `error_against_step.png` and `seconds_and_errors.png`, except empty ones; return the files."""
    figures = {
        "learning_curves.png": learning_curves_figure(groups),
        "error_against_step.png": errors_against_steps_figure(rows),
        "seconds_and_errors.png": bars_figure(rows),
    }
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    for name, figure in drawn.items():
        figure.savefig(folder / name, dpi=DPI)
    return [folder / name for name in drawn]


def learning_curves_figure(groups: Sequence[Group]) -> Figure | None:
    """Validation RMSE against epochs and time. Thick lines are medians over seeds; with few rows, thin lines are single seeds."""
    records = [record for group in groups for run in group.runs for record in run.records]
    shown = {key: unit for key, unit in _COURSES.items() if any(record.get(key) is not None for record in records)}
    if not shown:
        return None
    seconds = np.concatenate([training_seconds(run.records) for group in groups for run in group.runs])
    length, of_time = time_unit(np.nanmax(seconds, initial=0.0))
    figure = Figure(figsize=(10, 1.2 + 3.1 * len(shown)), layout="constrained", dpi=DPI)
    panels = figure.subplots(len(shown), 2, sharex="col", sharey="row", squeeze=False)
    for line, (key, unit) in zip(panels, shown.items(), strict=True):
        for axes, x in zip(line, (_epochs, lambda run: training_seconds(run.records) / length), strict=True):
            for number, group in enumerate(groups):
                _draw_group(axes, group, x, key, number, len(groups) <= _MOST_WITH_SEEDS)
            fit_scale(axes, np.concatenate([record_values(run.records, key) for group in groups for run in group.runs]))
            axes.grid(alpha=0.3)
        line[0].set_ylabel(f"validation {key.removesuffix('_rmse')} RMSE ({unit})")
    figure.align_ylabels(panels)
    panels[-1, 0].set_xlabel("epoch")
    panels[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1, 1].set_xlabel(f"time of training and validation, without compilation ({of_time})")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    begins = {second_stage(run.records) for group in groups for run in group.runs} - {None}
    for axes, epoch in itertools.product(panels[:, 0], begins):
        axes.axvline(epoch, color=GRAY, linestyle="--", linewidth=1, zorder=0.5)
    if begins:
        handles.append(Line2D([], [], color=GRAY, linestyle="--", linewidth=1, marker="o", markerfacecolor="white"))
        labels.append("stage two begins")
    labels = [textwrap.fill(label, 2 * _NAME_WIDTH) for label in labels]
    columns = min(len(labels), 3 if max(map(len, labels)) < _NAME_WIDTH else 2)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    return figure


def _epochs(run: Run) -> np.ndarray:
    return np.array([record["epoch"] for record in run.records], float)


def _draw_group(axes: Axes, group: Group, x: Callable[[Run], np.ndarray], key: str, number: int, with_seeds: bool) -> None:
    style = _style(number)
    curves = [np.stack([x(run), record_values(run.records, key)], axis=1) for run in group.runs if run.records]
    curves = [curve for curve in curves if np.isfinite(curve).all(axis=1).any()]
    if not curves:
        return
    if len(curves) > 1 and with_seeds:
        for curve in curves:
            axes.plot(*curve.T, linewidth=0.6, alpha=0.45, **style)
    shortest = min(map(len, curves))
    median = np.median([curve[:shortest] for curve in curves], axis=0)
    marker = {"marker": "."} if shortest == 1 else {}  # a line needs two points
    axes.plot(*median.T, linewidth=1.7, label=group.name, **style, **marker)
    begins = [epoch for epoch in (second_stage(run.records) for run in group.runs) if epoch is not None]
    if begins and min(begins) <= shortest:
        axes.plot(*median[min(begins) - 1], marker="o", markersize=6, markerfacecolor="white", color=style["color"], zorder=3)


def _style(number: int) -> dict[str, Any]:
    return {"color": COLORS[number % len(COLORS)], "linestyle": _LINES[number // len(COLORS) % len(_LINES)]}


def errors_against_steps_figure(rows: Sequence[Row]) -> Figure | None:
    """Force RMSE of the validation set, with its deviation over the seeds, against the time of a step with its quartiles.

    A line connects the rows for which no other row is both faster and more accurate.
    """
    shown = [(number, row) for number, row in enumerate(rows) if row.get("valid_force_rmse") is not None and row["step_ms"] is not None]
    if not shown:
        return None
    figure = Figure(figsize=(8, 5.4), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    best = frontier([(row["step_ms"], row["valid_force_rmse"]) for _, row in shown])
    if len(best) > 1:
        corners = np.array([(shown[i][1]["step_ms"], shown[i][1]["valid_force_rmse"]) for i in best])
        axes.plot(*corners.T, color=GRAY, linewidth=1, linestyle="--", zorder=0.5, label="no other row is both faster and more accurate")
    points, lines = [], [corners] if len(best) > 1 else []
    for number, row in shown:
        x, y, color = row["step_ms"], row["valid_force_rmse"], COLORS[number % len(COLORS)]
        low, high = (x if row[key] is None else row[key] for key in ("step_ms_q1", "step_ms_q3"))
        style = {"color": color, "marker": MARKERS[number % len(MARKERS)], "linestyle": "", "elinewidth": 0.8, "capsize": 2}
        axes.errorbar(x, y, row["valid_force_rmse_std"] or None, [[max(x - low, 0.0)], [max(high - x, 0.0)]], **style)
        deviation = row["valid_force_rmse_std"] or 0.0
        lines += [np.array([[low, y], [high, y]]), np.array([[x, y - deviation], [x, y + deviation]])]
        points.append(Point(x, y, textwrap.fill(row["name"], _NAME_WIDTH), color))
    axes.set(xlabel="median time of a training step, with quartiles (ms)", ylabel="validation force RMSE (meV/Å)")
    axes.grid(alpha=0.3)
    axes.margins(0.15)
    if len(best) > 1:
        figure.legend(loc="outside lower center", fontsize=9, frameon=False)
    label_points(axes, points, lines)
    return figure


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points for which no other point is lower in both coordinates, from left to right."""
    best: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: points[i]):
        if not best or points[i][1] < points[best[-1]][1]:
            best.append(i)
    return best


def bars_figure(rows: Sequence[Row]) -> Figure | None:
    """Seconds per epoch beside the errors of the validation set, one bar per row."""
    shown = {key: title for key, title in _BARS.items() if any(row.get(key) is not None for row in rows)}
    if not shown:
        return None
    names = [textwrap.fill(row["name"], _NAME_WIDTH) for row in rows]
    height = 1.0 + 0.22 * sum(1 + name.count("\n") + 0.7 for name in names)
    figure = Figure(figsize=(2.6 + 2.9 * len(shown), max(2.2, height)), layout="constrained", dpi=DPI)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    places = np.arange(len(rows))
    for axes, (key, title) in zip(panels, shown.items(), strict=True):
        values = np.array([np.nan if row.get(key) is None else row[key] for row in rows], float)
        deviations = np.array([row.get(f"{key}_std") or 0.0 for row in rows])
        axes.barh(places, values, color=[COLORS[number % len(COLORS)] for number in range(len(rows))], alpha=0.8)
        axes.errorbar(
            values, places, xerr=np.where(deviations > 0, deviations, np.nan), color="black", linestyle="", capsize=2, elinewidth=0.8
        )
        for place, value, deviation in zip(places, values, deviations, strict=True):
            if np.isfinite(value):
                where = (value + deviation, place)
                axes.annotate(plain(value), where, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set(xlabel=title, xlim=(0, 1.25 * np.nanmax(values + deviations) or 1.0))
        axes.grid(alpha=0.3, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5))
    panels[0].set_yticks(places, names)
    panels[0].invert_yaxis()
    return figure
