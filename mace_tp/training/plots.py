"""Pictures of a training: learning curves and parity plots, as PNG."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mace_tp.errors import InputError

Record = Mapping[str, Any]
"""A line of `metrics.jsonl`: {name: number}; None where a number was not finite."""

# Okabe and Ito's palette, made to be told apart by everyone; cividis likewise, for densities.
_BLUE, _VERMILLION, _GRAY = "#0072B2", "#D55E00", "#777777"
_DENSITY = "cividis_r"
DPI = 120  # 9 inches make 1080 pixels: sharp at 900, and 2000 noisy epochs fit into 200 kB
_MANY_POINTS = 2000  # more are drawn as a density, since points would hide one another
_MARKED_EPOCHS = 40  # up to here every epoch gets a marker, so that a single one is seen too
_LOG_RANGE = 3.0  # values that span less than this factor are read more easily on a linear axis
FEW_VALUES = 100  # of fewer, a histogram shows its bins and not the values
_SHOWN_ERRORS = 0.995  # quantile of |error| inside the histogram; the rest is counted in its outermost bins
_MAX_BINS = 61


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, in order of epochs.

    An unfinished last line, of a run that was killed, is left out. Epochs that a resumed run did again replace the first ones.

    Raises:
        InputError: there is no such file, or a line other than the last is not a JSON object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; a run directory holds a metrics.jsonl") from error
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is None:
            if number < len(lines):
                raise InputError(f"{path}, line {number}: not a JSON object; metrics.jsonl has one per line")
            continue
        while records and records[-1].get("epoch", -1) >= record.get("epoch", np.inf):
            records.pop()
        records.append(record)
    return records


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


class _Curve(NamedTuple):
    label: str
    values: np.ndarray  # [records], NaN where absent
    color: str


def learning_curves(metrics: Sequence[Record], path: Path) -> None:
    """Write the picture of `learning_curves_figure`."""
    learning_curves_figure(metrics).savefig(path, dpi=DPI)


def learning_curves_figure(metrics: Sequence[Record]) -> Figure:
    """Losses and RMSE of forces (meV/Å), energies (meV/atom) and stress (meV/Å³) against epochs and time of training.

    Args:
        metrics: records of `metrics.jsonl`. An error that none of them has gets no panel. Where `stage` becomes 2, the
            second stage is marked. The time is that of updates and validations, else left out.
    """
    epochs = _values(metrics, "epoch")
    errors = {"force": "meV/Å", "energy": "meV/atom", "stress": "meV/Å³"}
    errors = {kind: unit for kind, unit in errors.items() if np.isfinite(_values(metrics, f"{kind}_rmse")).any()}
    figure = Figure(figsize=(9, 3 + 1.9 * len(errors)), layout="constrained")
    panels = figure.subplots(1 + len(errors), sharex=True, squeeze=False)[:, 0]
    losses = [_Curve("training", _values(metrics, "train_loss"), _BLUE), _Curve("validation", _values(metrics, "valid_loss"), _VERMILLION)]
    _draw_curves(panels[0], epochs, losses, "loss")
    for axes, (kind, unit) in zip(panels[1:], errors.items(), strict=True):
        values = _values(metrics, f"{kind}_rmse")
        lowest = np.nanargmin(values)
        label = f"validation, lowest {plain(values[lowest])} {unit} (epoch {epochs[lowest]:.0f})"
        _draw_curves(axes, epochs, [_Curve(label, values, _VERMILLION)], f"{kind} RMSE ({unit})")
    figure.align_ylabels(panels)
    _mark_second_stage(panels, metrics)
    for axes in panels:
        axes.legend(fontsize=9)
    panels[-1].set(xlabel="epoch", xlim=(0, 1.02 * max(epochs, default=1)))
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_time(panels[0], epochs, training_seconds(metrics))
    return figure


def _values(metrics: Sequence[Record], key: str) -> np.ndarray:
    """One number per record [records]; NaN where it is absent."""
    return np.array([np.nan if record.get(key) is None else record[key] for record in metrics], dtype=float)


def plain(value: float) -> str:
    """Three significant digits, without an exponent where people would not write one."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"


def _draw_curves(axes: Axes, epochs: np.ndarray, curves: Sequence[_Curve], label: str) -> None:
    marker = "." if len(epochs) <= _MARKED_EPOCHS else ""
    for curve in curves:
        axes.plot(epochs, curve.values, color=curve.color, label=curve.label, linewidth=1.5, marker=marker)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    fit_scale(axes, np.concatenate([curve.values for curve in curves]))


def fit_scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic vertical axis, with ticks that can be read, where the values span enough for one."""
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values) or values.max() / values.min() <= _LOG_RANGE:
        axes.ticklabel_format(axis="y", useOffset=False)  # whole numbers where the values are nearly the same, no "+1.1332e3" above
        return
    decades = np.log10(values.max() / values.min())
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def second_stage(metrics: Sequence[Record]) -> int | None:
    """The first epoch of stage two; None where there is none."""
    return next((record["epoch"] for record in metrics if (record.get("stage") or 1) > 1), None)


def _mark_second_stage(panels: Sequence[Axes], metrics: Sequence[Record]) -> None:
    start = second_stage(metrics)
    if start is None:
        return
    for axes in panels:
        axes.axvline(start, color=_GRAY, linestyle="--", linewidth=1, label=f"stage two, from epoch {start}" if axes is panels[0] else None)


def training_seconds(metrics: Sequence[Record]) -> np.ndarray:
    """Seconds of updates and validations, without compilations, up to the end of every epoch [records]; NaN where unknown."""
    return np.cumsum(_values(metrics, "epoch_seconds") + np.nan_to_num(_values(metrics, "valid_seconds")))


def time_unit(seconds: float) -> tuple[int, str]:
    """The unit in which people count such a time, and its length in seconds."""
    return next((length, unit) for length, unit in ((3600, "h"), (60, "min"), (1, "s")) if seconds > 3 * length or length == 1)


def _add_time(axes: Axes, epochs: np.ndarray, seconds: np.ndarray) -> None:
    """A second axis on top, with round times where they were reached."""
    if len(epochs) < 2 or not (np.diff(seconds) > 0).all():  # not greater: unknown, too
        return
    length, unit = time_unit(seconds[-1])
    ticks = MaxNLocator(8, steps=[1, 2, 3, 5, 10]).tick_values(seconds[0] / length, seconds[-1] / length)
    ticks = ticks[(ticks >= seconds[0] / length) & (ticks <= seconds[-1] / length)]
    top = axes.secondary_xaxis("top")
    top.set_xticks(np.interp(ticks * length, seconds, epochs), [f"{tick:g}" for tick in ticks])
    top.set_xlabel(f"time of training and validation, without compilation ({unit})")


def parity(labels: np.ndarray, predictions: np.ndarray, quantity: str, unit: str, path: Path, title: str) -> None:
    """Write the picture of `parity_figure`."""
    parity_figure(labels, predictions, quantity, unit, title).savefig(path, dpi=DPI)


def parity_figure(labels: np.ndarray, predictions: np.ndarray, quantity: str, unit: str, title: str) -> Figure:
    """Predictions against labels, and the distribution of the errors.

    Args:
        labels: [...], in `unit`; for energies per atom.
        predictions: of the same shape. Pairs with a number that is not finite are left out, and counted in the picture.
        quantity: what it is, such as "forces".
        unit: one that starts with eV; errors are given in its thousandth.
        title: of the whole picture, such as the name of the data set.

    Raises:
        ValueError: the shapes differ, or the unit is no multiple of eV.
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
    axes.plot([low, high], [low, high], color=_GRAY, linewidth=1, linestyle="--", zorder=0.5)
    if len(labels) > _MANY_POINTS:
        cells = axes.hexbin(labels, predictions, gridsize=90, extent=(low, high, low, high), mincnt=1, norm=LogNorm(vmin=1), cmap=_DENSITY)
        axes.figure.colorbar(cells, ax=axes, label="number of values per cell", shrink=0.8)
    else:
        axes.scatter(labels, predictions, s=24 if len(labels) < FEW_VALUES else 9, color=_BLUE, alpha=0.5, linewidths=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=f"reference {quantity} ({unit})", ylabel=f"predicted {quantity} ({unit})")
    axes.locator_params(nbins=6)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    axes.text(s=summary(1000 * (predictions - labels), f"m{unit}"), transform=axes.transAxes, bbox=box, **corner(labels, predictions))


def corner(labels: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
    """Place of a text in a parity plot, on the side of the diagonal that has fewer points."""
    if np.sum(predictions > labels) > np.sum(predictions < labels):
        return {"x": 0.96, "y": 0.04, "ha": "right", "va": "bottom"}
    return {"x": 0.04, "y": 0.96, "ha": "left", "va": "top"}


def _draw_errors(axes: Axes, errors: np.ndarray, unit: str) -> None:
    if len(errors) < FEW_VALUES:
        draw_distribution(axes, errors, _BLUE)
        axes.axvline(0, color=_GRAY, linewidth=1, linestyle="--")
        axes.set(xlim=axis_limits(np.append(errors, 0.0)), xlabel=f"predicted - reference ({unit})", ylabel=SHARE)
        return
    reach = 1.1 * np.quantile(abs(errors), _SHOWN_ERRORS) if len(errors) else 0
    reach = reach or 1.0  # no error at all is possible
    num_bins = min(11 + 2 * int(len(errors) ** 0.5 / 2), _MAX_BINS)  # odd: one is centered at zero
    axes.hist(np.clip(errors, -reach, reach), bins=np.linspace(-reach, reach, num_bins + 1), color=_BLUE)
    axes.axvline(0, color=_GRAY, linewidth=1, linestyle="--")
    axes.locator_params(axis="x", nbins=6)
    axes.set(xlim=(-reach, reach), xlabel=f"predicted - reference ({unit})", ylabel="number of values")
    beyond = int(np.sum(abs(errors) > reach))
    if beyond:
        axes.set_title(f"{beyond} larger errors are counted in the outermost bins", fontsize=9)


SHARE = "share of values up to the error (%)"


def draw_distribution(axes: Axes, errors: np.ndarray, color: str, label: str | None = None, marker: str = "o") -> None:
    """The share of errors that are not above the one on the axis, in %, with a mark for each: of few values all are seen."""
    errors = np.sort(errors)
    shares = 100 * np.arange(1, len(errors) + 1) / max(len(errors), 1)
    axes.step(errors, shares, where="post", color=color, linewidth=1.2, marker=marker, markersize=3.5, label=label)
    axes.set_ylim(0, 104)
    axes.grid(alpha=0.3)
    axes.locator_params(axis="x", nbins=6)


def summary(errors: np.ndarray, unit: str) -> str:
    """Three lines: RMSE, MAE, how many."""
    return f"RMSE {plain(rms(errors))} {unit}\nMAE {plain(mean(abs(errors)))} {unit}\n{num_values(errors)}"


def num_values(values: np.ndarray) -> str:
    """How many, in words."""
    return "1 value" if values.size == 1 else f"{values.size} values"


def axis_limits(values: np.ndarray) -> tuple[float, float]:
    """What an axis shows: all values and a margin, never a point."""
    if not len(values):
        return 0.0, 1.0
    margin = 0.04 * (values.max() - values.min()) or max(1e-3, 1e-6 * abs(values.max()))
    return values.min() - margin, values.max() + margin


def mean(values: np.ndarray) -> float:
    """NaN of nothing."""
    return float(np.mean(values)) if len(values) else np.nan


def rms(values: np.ndarray) -> float:
    """Root of the mean square; NaN of nothing."""
    return mean(values**2) ** 0.5
