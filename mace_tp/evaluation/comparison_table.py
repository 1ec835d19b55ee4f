"""Table of a comparison of trainings: Markdown (also for the terminal), CSV, JSON."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mace_tp.evaluation.comparison import Group, Run
from mace_tp.evaluation.step_times import StepTimes, recorded

Row = dict[str, Any]
"""{column: value}. Errors have a column for the mean over seeds and a column `..._std` for the standard deviation (None for one seed)."""


def make_rows(groups: Sequence[Group], baseline: Group | None, times: Mapping[str, StepTimes] | None = None) -> list[Row]:
    """Errors as mean and sample standard deviation over seeds, costs as medians; speed-up is the baseline's time over the row's.

    Args:
        groups: the rows.
        baseline: the reference of speed-ups; None for no speed-ups.
        times: newly measured step times by the name of the row; None takes those of the trainings.
    """
    times = {group.name: recorded(group) for group in groups} if times is None else times
    rows = []
    for group in groups:
        steps = times[group.name]
        row: Row = {"name": group.name, "seeds": " ".join(map(str, group.seeds)), "num_parameters": _median(group, "num_parameters")}
        for part, kind in _error_columns(groups):
            row |= _mean_and_deviation(f"{part}_{kind}", group.errors(part, kind))
        low, high = steps.quartiles or (None, None)
        row["seconds_per_epoch"] = steps.epoch_seconds
        row |= {"step_ms": _scaled(steps.seconds, 1000), "step_ms_q1": _scaled(low, 1000), "step_ms_q3": _scaled(high, 1000)}
        row |= {"step_ms_min": _scaled(steps.least, 1000), "cpu_per_wall": steps.cpu_per_wall}
        row["compile_seconds"] = _median(group, "compile_seconds")
        row["total_seconds"] = _median(group, "total_seconds")
        row["gflop_per_step"] = _scaled(_median(group, "flops_per_step"), 1e-9)
        row["peak_memory_mb"] = _median(group, "peak_memory_mb")
        if baseline is not None:
            row["speed_up"] = _ratio(times[baseline.name].seconds, steps.seconds)
        rows.append(row)
    return rows


def markdown(rows: Sequence[Row], remarks: Sequence[str]) -> str:
    """The table with remarks below it, also readable in a terminal."""
    columns = _shown_columns(rows)
    cells = [list(columns), *([_cell(row, name) for name in columns.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths))} |" for line in cells]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join([*lines, *([""] if remarks else []), *(f"* {remark}" for remark in remarks)])


def write(folder: Path, rows: Sequence[Row], remarks: Sequence[str], groups: Sequence[Group], unfinished: Sequence[Run]) -> None:
    """Write `comparison.md`, `comparison.csv`, and `comparison.json`, which also has paths and environments of all runs."""
    (folder / "comparison.md").write_text(markdown(rows, remarks) + "\n", encoding="utf-8", errors="backslashreplace")
    with open(folder / "comparison.csv", "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    content = {
        "rows": rows,
        "remarks": remarks,
        "runs": {group.name: {str(run.path): run.finished["environment"] for run in group.runs} for group in groups},
        "unfinished": [str(run.path) for run in unfinished],
    }
    (folder / "comparison.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")


def _error_columns(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """(`valid` or the short name of a test file, kind of error) of every column that some row fills."""
    kinds = ("force_rmse", "energy_rmse_per_config", "stress_rmse")
    parts = dict.fromkeys(part for group in groups for run in group.runs for part in run.errors())
    return [(part, kind) for part in parts for kind in kinds if any(len(group.errors(part, kind)) for group in groups)]


def _shown_columns(rows: Sequence[Row]) -> dict[str, str]:
    """{heading: key of the rows} of the columns in the table."""
    titles = {"name": "tensor product", "seeds": "seeds", "num_parameters": "parameters"}
    units = {"_force_rmse": "F RMSE meV/Å", "_energy_rmse_per_config": "E RMSE meV", "_stress_rmse": "S RMSE meV/Å³"}
    for key in rows[0]:
        for suffix, unit in units.items():
            if key.endswith(suffix):
                titles[key] = f"{key.removesuffix(suffix)} {unit}"
    titles |= {
        "seconds_per_epoch": "s/epoch", "step_ms": "step ms", "step_ms_q3": "quartiles", "step_ms_min": "least", "cpu_per_wall": "CPU s/s",
        "compile_seconds": "compile s", "total_seconds": "total s",
        "gflop_per_step": "GFLOP/step", "peak_memory_mb": "MB", "speed_up": "speed-up",
    }  # fmt: skip
    return {title: key for key, title in titles.items() if any(row.get(key) is not None for row in rows)}


_FORMATS = {
    "num_parameters": ",.0f", "cpu_per_wall": ".2f", "total_seconds": ".0f", "peak_memory_mb": ".0f", "gflop_per_step": ".2f",
    "speed_up": ".2f",
}  # fmt: skip


def _cell(row: Row, key: str) -> str:
    value = row.get(key)
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    text = format(value, _FORMATS.get(key, ".1f"))
    if key == "step_ms_q3":
        return f"{row['step_ms_q1']:.1f}-{text}"
    deviation = row.get(f"{key}_std")
    return text if deviation is None else f"{text} ± {deviation:{'.1f' if deviation >= 0.05 else '.1g'}}"


def _mean_and_deviation(name: str, values: np.ndarray) -> Row:
    if not len(values):
        return {name: None}
    return {name: float(values.mean()), f"{name}_std": float(values.std(ddof=1)) if len(values) > 1 else None}


def _median(group: Group, key: str) -> float | None:
    values = group.values(key)
    return float(np.median(values)) if len(values) else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator
