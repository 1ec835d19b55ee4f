"""Pictures of measurements: time and time per degree of freedom against L, and the roofline."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mace_tp.benchmark.machine import Machine
from mace_tp.benchmark.report import Record

# Okabe and Ito's palette, made to be told apart by everyone; markers tell again what colors do.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DPI = 100


def draw(folder: Path, records: Sequence[Record], machine: Machine, caption: str) -> list[Path]:
    """Write a picture for each setting, and the roofline; return where they are."""
    timed = [values for values in records if not values["note"]]
    products = list(dict.fromkeys(values["product"] for values in records))
    figures = {
        f"{setting}.png": _setting_figure([values for values in timed if values["setting"] == setting], products, setting, caption)
        for setting in dict.fromkeys(values["setting"] for values in timed)
    }
    if timed:
        figures["roofline.png"] = _roofline_figure(timed, products, machine, caption)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=_DPI)
    return [folder / name for name in figures]


def _setting_figure(records: Sequence[Record], products: Sequence[str], setting: str, caption: str) -> Figure:
    derivatives = list(dict.fromkeys(values["derivative"] for values in records))
    figure = Figure(figsize=(1.2 + 3.3 * len(derivatives), 6.4), layout="constrained")
    panels = figure.subplots(2, len(derivatives), sharex=True, sharey="row", squeeze=False)
    for column, derivative in enumerate(derivatives):
        shown = [values for values in records if values["derivative"] == derivative]
        for axes, key in zip(panels[:, column], ("median_ms", "us_per_dof"), strict=True):
            _draw_products(axes, shown, products, key)
        panels[0, column].set_title(derivative)
        panels[1, column].set_xlabel("L")
    panels[0, 0].set_ylabel("median time (ms)")
    panels[1, 0].set_ylabel("time per degree of freedom (µs)")
    figure.suptitle(setting.replace("_", " "))
    _add_legend(figure, panels[0, 0], caption)
    return figure


def _draw_products(axes: Axes, records: Sequence[Record], products: Sequence[str], key: str) -> None:
    for number, product in enumerate(products):
        mine = [values for values in records if values["product"] == product]
        scale = 1.0 if key == "median_ms" else 1e3 / np.array([values["dof"] for values in mine])
        spread = scale * np.array([values["spread_ms"] for values in mine])
        style = {"color": _COLORS[number % len(_COLORS)], "marker": _MARKERS[number % len(_MARKERS)]}
        axes.errorbar([v["l_max"] for v in mine], [v[key] for v in mine], spread, label=product, linewidth=1.5, markersize=5, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_plain)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _roofline_figure(records: Sequence[Record], products: Sequence[str], machine: Machine, caption: str) -> Figure:
    """Achieved operations per second against operations per byte, of the values, for which both are counted by the plans."""
    values = [values for values in records if values["gflop"] is not None] or list(records)
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    axes = figure.subplots()
    intensities = [entry["flop_per_byte"] for entry in values]
    span = np.geomspace(min(intensities) / 2, max(*intensities, machine.flops_per_second / machine.bytes_per_second) * 2)
    axes.plot(span, [machine.roof(intensity) / 1e9 for intensity in span], color="#777777", linewidth=1.5)
    for text, at, shift, side in (("copy", span[0], 14, "left"), ("matrix product", span[-1], 5, "right")):
        where = at, machine.roof(at) / 1e9
        axes.annotate(text, where, xytext=(0, shift), textcoords="offset points", ha=side, fontsize=9, color="#777777")
    for number, product in enumerate(products):
        mine = [entry for entry in values if entry["product"] == product]
        sizes = [18 + 14 * entry["l_max"] for entry in mine]
        style = {"color": _COLORS[number % len(_COLORS)], "marker": _MARKERS[number % len(_MARKERS)], "alpha": 0.75}
        axes.scatter([v["flop_per_byte"] for v in mine], [v["gflop_per_second"] for v in mine], s=sizes, label=product, **style)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte (plan's count)", ylabel="GFLOP/s")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_plain)
    axes.grid(alpha=0.3)
    axes.set_title("roofline; larger marks: larger L")
    _add_legend(figure, axes, caption)
    return figure


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def _add_legend(figure: Figure, axes: Axes, caption: str) -> None:
    """The products, under small print that says where it was measured."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 5)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, title=caption, title_fontsize=7, frameon=False)
