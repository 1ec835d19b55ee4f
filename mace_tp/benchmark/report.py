"""Reports measurements: derived numbers, a table for the terminal, CSV and JSON."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mace_tp.benchmark.machine import Machine
from mace_tp.benchmark.measure import Row

Record = dict[str, Any]
"""A row and its derived numbers: {column: value}, in the units of the column's name; None where there is no value."""

_COLUMNS = {
    "product": (22, "s", "product"),
    "median_ms": (9, ".3f", "ms"),
    "spread_ms": (8, ".3f", "± ms"),
    "compile_seconds": (9, ".2f", "compile s"),
    "million_entries_per_second": (8, ".2f", "M/s"),
    "gflop": (8, ".3f", "GFLOP"),
    "xla_gflop": (8, ".3f", "by XLA"),
    "gflop_per_second": (8, ".1f", "GFLOP/s"),
    "share_of_peak": (6, ".0%", "peak"),
    "share_of_roof": (6, ".0%", "roof"),
    "memory_mb": (8, ".1f", "MB"),
    "num_paths": (6, "d", "paths"),
    "dof": (5, "d", "dof"),
    "us_per_dof": (9, ".1f", "µs/dof"),
    "mflop_per_dof": (10, ".3f", "MFLOP/dof"),
}


def record(row: Row, machine: Machine) -> Record:
    """Return a row's numbers and those derived from them.

    "± ms" is half the distance between the quartiles. `share_of_roof` is the shortest possible time divided by the median. The shortest
    possible time is that of a matrix product with as many operations, or that of one pass over arguments and results, whichever is longer.
    The bandwidth of the pass is that of arrays as large as the program's memory, because it depends on the cache that they fit into.
    """
    head = {"setting": row.setting, "l_max": row.l_max, "derivative": row.derivative, "product": row.product, "note": row.note}
    if row.note:
        return head
    rate = row.xla_flops / row.median_seconds
    intensity = row.xla_flops / row.xla_bytes
    low, high = row.quartiles_seconds
    return head | {
        "irreps": row.irreps,
        "num_entries": row.num_entries,
        "num_paths": row.num_paths,
        "dof": row.dof,
        "median_ms": 1e3 * row.median_seconds,
        "spread_ms": 1e3 * (high - low) / 2,
        "min_ms": 1e3 * row.min_seconds,
        "repeats": row.repeats,
        "compile_seconds": row.compile_seconds,
        "million_entries_per_second": row.num_entries / row.median_seconds / 1e6,
        "gflop": None if row.flops is None else row.flops / 1e9,
        "xla_gflop": row.xla_flops / 1e9,
        "xla_gbyte": row.xla_bytes / 1e9,
        "gflop_per_second": rate / 1e9,
        "gbyte_per_second": row.xla_bytes / row.median_seconds / 1e9,
        "flop_per_byte": intensity,
        "share_of_peak": rate / machine.flops_per_second,
        "flop_per_moved_byte": row.xla_flops / row.moved_bytes,
        "share_of_roof": rate / machine.roof(row.xla_flops / row.moved_bytes, row.memory_bytes),
        "moved_mb": row.moved_bytes / 1e6,
        "memory_mb": row.memory_bytes / 1e6,
        "us_per_dof": 1e6 * row.median_seconds / row.dof,
        "mflop_per_dof": row.xla_flops / row.dof / 1e6,
    }


def header() -> str:
    """Return the first line of the table."""
    return "  ".join(f"{title:>{width}}" if kind != "s" else f"{title:{width}}" for width, kind, title in _COLUMNS.values())


def table(records: Sequence[Record]) -> list[str]:
    """Return the lines of rows that were timed in turn, below a line that names their setting."""
    first = records[0]
    lines = [f"{first['setting']}, L = {first['l_max']}, {first['derivative']}"]
    for values in records:
        cells = [_cell(values.get(name), width, kind) for name, (width, kind, _) in _COLUMNS.items()]
        lines.append(f"{values['product']:{_COLUMNS['product'][0]}}  cannot: {values['note']}" if values["note"] else "  ".join(cells))
    return lines


def _cell(value: Any, width: int, kind: str) -> str:
    if value is None:
        return f"{'-':>{width}}"
    return f"{value:{width}}" if kind == "s" else f"{value:{width}{kind}}"


def write(folder: Path, records: Sequence[Record], machine: Machine, environment: dict[str, str | int], options: dict[str, Any]) -> None:
    """Write `benchmark.json` and `benchmark.csv`. In the CSV every entry of the environment is a column."""
    small, large = machine.sizes
    peaks = {
        "peak_gflop_per_second": machine.flops_per_second / 1e9,
        "copy_gbyte_per_second": machine.bandwidth(large) / 1e9,
        "cache_gbyte_per_second": machine.bandwidth(small) / 1e9,
    }
    by_size = {str(size): bandwidth / 1e9 for size, bandwidth in machine.bandwidths}
    content = {"environment": environment, "machine": peaks | {"gbyte_per_second_by_bytes": by_size}, "options": options, "rows": records}
    (folder / "benchmark.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    columns = list(dict.fromkeys(name for values in records for name in values))
    with open(folder / "benchmark.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, *peaks, *environment])
        writer.writeheader()
        writer.writerows(values | peaks | environment for values in records)
