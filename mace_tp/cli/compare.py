"""`mace-tp compare`: one table and pictures over finished trainings."""

import argparse
from pathlib import Path

from mace_tp import comparison_plots, comparison_table
from mace_tp.comparison import Group, Run, differences_of_data, find_baseline, find_runs, group_runs, other_differences
from mace_tp.errors import InputError


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    runs = find_runs(options.runs)
    unfinished = [run for run in runs if run.results is None]
    groups = group_runs(runs)
    if not groups:
        raise InputError(f"{', '.join(map(str, options.runs))}: {len(runs)} runs, none of them finished; trainer.resume=auto continues one")
    baseline = find_baseline(groups, options.baseline)
    remarks = _remarks(groups, unfinished, baseline, data_may_differ=options.anyway)
    rows = comparison_table.make_rows(groups, baseline)
    print(comparison_table.markdown(rows, remarks))
    if options.out:
        _write(options.out, rows, remarks, groups, unfinished)


def _remarks(groups: list[Group], unfinished: list[Run], baseline: Group | None, *, data_may_differ: bool) -> list[str]:
    """What to bear in mind, most important first.

    Raises:
        InputError: the runs are of other data.
    """
    data = differences_of_data(groups)
    if data and not data_may_differ:
        raise InputError(f"the runs cannot be compared: {'; '.join(data)}; --anyway compares them all the same")
    remarks = [f"NOT COMPARABLE: {line}" for line in data] + [f"WARNING {line}" for line in other_differences(groups)]
    remarks += [f"not finished, left out: {run.path} ({len(run.records)} epochs)" for run in unfinished]
    remarks.append("errors: mean ± standard deviation over the seeds; times, memory and operations: medians")
    if baseline is not None:
        remarks.append(f"speed-up: step time of {baseline.name} over that of the row")
    environment = groups[0].runs[0].results["environment"]
    named = [f"{key} {environment[key]}" for key in ("jax", "jaxlib", "device", "dtype", "threads", "commit") if key in environment]
    return [*remarks, f"first row measured with {', '.join(named)}"]


def _write(folder: Path, rows: list[comparison_table.Row], remarks: list[str], groups: list[Group], unfinished: list[Run]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        comparison_table.write(folder, rows, remarks, groups, unfinished)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror})") from error
    for path in comparison_plots.draw(folder, groups, rows):
        print(path)
    for suffix in ("md", "csv", "json"):
        print(folder / f"comparison.{suffix}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mace-tp compare",
        description="Errors and costs of finished trainings side by side. Runs that differ in their seed are one row.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, or folders that hold some, such as a sweep's")
    parser.add_argument("--baseline", metavar="NAME", help="the row that others are measured against (default: cg, if it is there)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write comparison.md, .csv, .json and pictures")
    parser.add_argument("--anyway", action="store_true", help="compare runs of other data, too, and say so")
    return parser
