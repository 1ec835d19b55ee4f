"""Plots of measurements: time and time per degree of freedom against L, and the roofline."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mace_tp.benchmark.machine import Machine
from mace_tp.benchmark.report import Record
from mace_tp.plotting import COLORS, DPI, GRAY, MARKERS, tick_label


def draw(folder: Path, records: Sequence[Record], machine: Machine, caption: str) -> list[Path]:
    """Write a picture for each setting and one of the roofline; return their paths."""
    timed = [values for values in records if not values["note"]]
    products = list(dict.fromkeys(values["product"] for values in records))
    figures = {
        f"{setting}.png": _setting_figure([values for values in timed if values["setting"] == setting], products, setting, caption)
        for setting in dict.fromkeys(values["setting"] for values in timed)
    }
    if timed:
        figures["roofline.png"] = _roofline_figure(timed, products, machine, caption)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=DPI)
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
    _add_legend(figure, panels[0, 0].get_legend_handles_labels()[0], caption)
    return figure


def _draw_products(axes: Axes, records: Sequence[Record], products: Sequence[str], key: str) -> None:
    for number, product in enumerate(products):
        mine = [values for values in records if values["product"] == product]
        scale = 1.0 if key == "median_ms" else 1e3 / np.array([values["dof"] for values in mine])
        spread = scale * np.array([values["spread_ms"] for values in mine])
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        degrees, values = [v["l_max"] for v in mine], [v[key] for v in mine]
        axes.errorbar(degrees, values, spread, label=product, linewidth=1.5, markersize=5, color=color, marker=marker)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(tick_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _roofline_figure(records: Sequence[Record], products: Sequence[str], machine: Machine, caption: str) -> Figure:
    """Plot operations per second against operations per byte of arguments and results; of the values if they were measured."""
    shown = [values for values in records if values["derivative"] == "value"] or list(records)
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    axes = figure.subplots()
    intensities = [entry["flop_per_moved_byte"] for entry in shown if entry["flop_per_moved_byte"] > 0]
    ridge = machine.flops_per_second / machine.bandwidth(machine.sizes[1])
    span = np.geomspace(min([*intensities, ridge]) / 2, 3 * max([*intensities, ridge]))
    for size, line, place in zip(machine.sizes, ("-", "--"), ("within the caches", "from memory"), strict=True):
        roof = np.array([machine.roof(intensity, size) / 1e9 for intensity in span])
        label = f"{place}: {machine.bandwidth(size) / 1e9:.0f} GB/s (arrays of {size / 1e6:.3g} MB)"
        axes.plot(span, roof, color=GRAY, linewidth=1.5, linestyle=line, label=label)
    peak = f"matrix product: {machine.flops_per_second / 1e9:.0f} GFLOP/s"
    where = span[-1], machine.flops_per_second / 1e9
    axes.annotate(peak, where, xytext=(-2, 6), textcoords="offset points", ha="right", fontsize=9, color="#555555")
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    handles = []
    for number, product in enumerate(products):
        mine = [entry for entry in shown if entry["product"] == product]
        sizes = [18 + 14 * entry["l_max"] for entry in mine]
        style = {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)], "alpha": 0.75}
        where = [v["flop_per_moved_byte"] for v in mine], [v["gflop_per_second"] for v in mine]
        handles.append(axes.scatter(*where, s=sizes, label=product, **style))
    axes.margins(y=0.1)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte of arguments and results", ylabel="operations per second (GFLOP/s)")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(tick_label)
    axes.grid(alpha=0.3)
    settings = ", ".join(dict.fromkeys(entry["setting"].replace("_", " ") for entry in shown))
    axes.set_title(f"roofline of {shown[0]['derivative']}s, {settings}; larger marks: larger L", fontsize=10)
    _add_legend(figure, handles, caption)
    return figure


def _add_legend(figure: Figure, handles: Sequence[Artist], caption: str) -> None:
    """Add a legend of the products, with a caption in small print that says where they were measured."""
    columns = min(len(handles), 5)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, title=caption, title_fontsize=7, frameon=False)
