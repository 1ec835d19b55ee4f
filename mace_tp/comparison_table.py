"""A comparison of trainings as a table: terminal and Markdown, CSV, JSON."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mace_tp.comparison import Group, Run

Row = dict[str, Any]
"""{column: value}; errors have a column for the mean over the seeds and one, `..._std`, for the standard deviation (none for one seed)."""


def make_rows(groups: Sequence[Group], baseline: Group | None) -> list[Row]:
    """Errors as mean and sample standard deviation over seeds, costs as medians; speed-up is the baseline's time over the row's."""
    rows = []
    for group in groups:
        row: Row = {"name": group.name, "seeds": " ".join(map(str, group.seeds)), "num_parameters": _median(group, "num_parameters")}
        for name, path in _error_columns(groups).items():
            row |= _mean_and_deviation(name, group.values(*path))
        row["seconds_per_epoch"] = _median(group, "epoch_seconds")
        row["step_ms"] = _scaled(_median(group, "step_seconds"), 1000)
        row["compile_seconds"] = _median(group, "compile_seconds")
        row["total_seconds"] = _median(group, "total_seconds")
        row["gflop_per_step"] = _scaled(_median(group, "flops_per_step"), 1e-9)
        row["peak_memory_mb"] = _median(group, "peak_memory_mb")
        if baseline is not None:
            row["speed_up"] = _ratio(_median(baseline, "step_seconds"), _median(group, "step_seconds"))
        rows.append(row)
    return rows


def markdown(rows: Sequence[Row], remarks: Sequence[str]) -> str:
    """The table, and what to bear in mind under it; readable in a terminal, too."""
    columns = _shown_columns(rows)
    cells = [list(columns), *([_cell(row, name) for name in columns.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths))} |" for line in cells]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join([*lines, *([""] if remarks else []), *(f"* {remark}" for remark in remarks)])


def write(folder: Path, rows: Sequence[Row], remarks: Sequence[str], groups: Sequence[Group], unfinished: Sequence[Run]) -> None:
    """Write `comparison.md`, `comparison.csv` and `comparison.json`; the last also with paths and environments of all runs."""
    (folder / "comparison.md").write_text(markdown(rows, remarks) + "\n", encoding="utf-8", errors="backslashreplace")
    with open(folder / "comparison.csv", "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    content = {
        "rows": rows,
        "remarks": remarks,
        "runs": {group.name: {str(run.path): run.results["environment"] for run in group.runs} for group in groups},
        "unfinished": [str(run.path) for run in unfinished],
    }
    (folder / "comparison.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")


def _error_columns(groups: Sequence[Group]) -> dict[str, tuple[str, ...]]:
    """Columns of force and energy errors, of the validation set and of every test file, and where results hold them."""
    kinds = ("force_rmse", "energy_rmse_per_config", "stress_rmse")
    columns = {f"valid_{kind}": ("valid", kind) for kind in kinds}
    for path in dict.fromkeys(path for group in groups for run in group.runs for path in run.results.get("test", {})):
        columns |= {f"{Path(path).name}_{kind}": ("test", path, kind) for kind in kinds}
    return {name: path for name, path in columns.items() if any(len(group.values(*path)) for group in groups)}


def _shown_columns(rows: Sequence[Row]) -> dict[str, str]:
    """Headings of the columns that the table shows, with the keys of the rows."""
    titles = {"name": "tensor product", "seeds": "seeds", "num_parameters": "parameters"}
    units = {"_force_rmse": "F RMSE meV/Å", "_energy_rmse_per_config": "E RMSE meV", "_stress_rmse": "S RMSE meV/Å³"}
    for key in rows[0]:
        for suffix, unit in units.items():
            if key.endswith(suffix):
                titles[key] = f"{key.removesuffix(suffix)} {unit}"
    titles |= {
        "seconds_per_epoch": "s/epoch", "step_ms": "step ms", "compile_seconds": "compile s", "total_seconds": "total s",
        "gflop_per_step": "GFLOP/step", "peak_memory_mb": "MB", "speed_up": "speed-up",
    }  # fmt: skip
    return {title: key for key, title in titles.items() if any(row.get(key) is not None for row in rows)}


_FORMATS = {"num_parameters": ",.0f", "total_seconds": ".0f", "peak_memory_mb": ".0f", "gflop_per_step": ".2f", "speed_up": ".2f"}


def _cell(row: Row, key: str) -> str:
    value = row.get(key)
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    text = format(value, _FORMATS.get(key, ".1f"))
    deviation = row.get(f"{key}_std")
    return text if deviation is None else f"{text} ± {deviation:.1f}"


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
