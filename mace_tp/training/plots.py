"""Learning curves of a training, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mace_tp.plotting import BLUE, DPI, GRAY, VERMILLION, fit_scale, plain, time_unit
from mace_tp.run_directory import Record, record_values, second_stage, training_seconds

_MARKED_EPOCHS = 40  # up to this number every epoch gets a marker, so that even a single one is visible


class _Curve(NamedTuple):
    label: str
    values: np.ndarray  # [records], NaN where absent
    color: str


def learning_curves(metrics: Sequence[Record], path: Path) -> None:
    """Write `learning_curves_figure` to a file."""
    learning_curves_figure(metrics).savefig(path, dpi=DPI)


def learning_curves_figure(metrics: Sequence[Record]) -> Figure:
    """Losses and RMSE of forces (meV/Å), energies (meV/atom) and stress (meV/Å³) against epochs and time of training.

    Args:
        metrics: records of `metrics.jsonl`. An error that no record has gets no panel. A line marks the beginning of stage two. The axis of
            time is left out if a record lacks the time of its updates.
    """
    epochs = record_values(metrics, "epoch")
    errors = {"force": "meV/Å", "energy": "meV/atom", "stress": "meV/Å³"}
    errors = {kind: unit for kind, unit in errors.items() if np.isfinite(record_values(metrics, f"{kind}_rmse")).any()}
    figure = Figure(figsize=(9, 3 + 1.9 * len(errors)), layout="constrained")
    panels = list(figure.subplots(1 + len(errors), sharex=True, squeeze=False)[:, 0])
    parts = {"training": ("train_loss", BLUE), "validation": ("valid_loss", VERMILLION)}
    losses = [_Curve(name, record_values(metrics, key), color) for name, (key, color) in parts.items()]
    _draw_curves(panels[0], epochs, losses, "loss")
    for axes, (kind, unit) in zip(panels[1:], errors.items(), strict=True):
        values = record_values(metrics, f"{kind}_rmse")
        lowest = np.nanargmin(values)
        label = f"validation, lowest {plain(values[lowest])} {unit} (epoch {epochs[lowest]:.0f})"
        _draw_curves(axes, epochs, [_Curve(label, values, VERMILLION)], f"{kind} RMSE ({unit})")
    figure.align_ylabels(panels)
    _mark_second_stage(panels, metrics)
    for axes in panels:
        axes.legend(fontsize=9)
    panels[-1].set(xlabel="epoch", xlim=(0, 1.02 * max(epochs, default=1)))
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_time(panels[0], epochs, training_seconds(metrics))
    return figure


def _draw_curves(axes: Axes, epochs: np.ndarray, curves: Sequence[_Curve], label: str) -> None:
    marker = "." if len(epochs) <= _MARKED_EPOCHS else ""
    for curve in curves:
        axes.plot(epochs, curve.values, color=curve.color, label=curve.label, linewidth=1.5, marker=marker)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    fit_scale(axes, np.concatenate([curve.values for curve in curves]))


def _mark_second_stage(panels: Sequence[Axes], metrics: Sequence[Record]) -> None:
    start = second_stage(metrics)
    if start is None:
        return
    for axes in panels:
        axes.axvline(start, color=GRAY, linestyle="--", linewidth=1, label=f"stage two, from epoch {start}" if axes is panels[0] else None)


def _add_time(axes: Axes, epochs: np.ndarray, seconds: np.ndarray) -> None:
    """Add a second axis on top, with round times at the epochs that reached them."""
    if len(epochs) < 2 or not (np.diff(seconds) > 0).all():  # also false for NaN
        return
    length, unit = time_unit(seconds[-1])
    ticks = MaxNLocator(8, steps=[1, 2, 3, 5, 10]).tick_values(seconds[0] / length, seconds[-1] / length)
    ticks = ticks[(ticks >= seconds[0] / length) & (ticks <= seconds[-1] / length)]
    top = axes.secondary_xaxis("top")
    top.set_xticks(np.interp(ticks * length, seconds, epochs), [f"{tick:g}" for tick in ticks])
    top.set_xlabel(f"time of training and validation, without compilation ({unit})")
