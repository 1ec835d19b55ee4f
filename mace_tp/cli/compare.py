"""`mace-tp compare`: a table and pictures of finished trainings."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from mace_tp.cli.outputs import make_folder
from mace_tp.cli.signals import raising
from mace_tp.errors import InputError
from mace_tp.evaluation import comparison_plots, comparison_table
from mace_tp.evaluation.comparison import (
    Group,
    Run,
    differences_of_data,
    equal_seeds,
    find_baseline,
    find_runs,
    group_runs,
    other_differences,
)
from mace_tp.evaluation.step_times import WORKER, StepTimes, cpu_doubts, doubts, recorded, retime


def main(arguments: list[str]) -> None:
    if arguments[:1] == [WORKER]:
        print(json.dumps(_time_steps(Path(arguments[1]))))
        return
    options = _parser().parse_args(arguments)
    _check(options)
    runs = find_runs(options.runs)
    unfinished = [run for run in runs if run.results is None]
    groups = group_runs(runs)
    if not groups:
        raise InputError(f"{', '.join(map(str, options.runs))}: {len(runs)} runs, none of them finished; trainer.resume=auto continues one")
    baseline = find_baseline(groups, options.baseline)
    remarks = _remarks(groups, unfinished, baseline, data_may_differ=options.anyway)
    times, about_times = _step_times(groups, options.rounds if options.retime else None)
    remarks = [*about_times, *remarks]
    rows = comparison_table.make_rows(groups, baseline, times)
    print(comparison_table.markdown(rows, remarks))
    if options.out:
        _write(options.out, rows, remarks, groups, unfinished)


def _remarks(groups: list[Group], unfinished: list[Run], baseline: Group | None, *, data_may_differ: bool) -> list[str]:
    """Return the remarks on the table, most important first.

    Raises:
        InputError: the runs have different data.
    """
    data = differences_of_data(groups)
    if data and not data_may_differ:
        raise InputError(f"the runs cannot be compared: {'; '.join(data)}; --anyway compares them all the same")
    remarks = [f"NOT COMPARABLE: {line}" for line in data] + [f"WARNING {line}" for line in other_differences(groups)]
    remarks += [f"WARNING {line}" for line in equal_seeds(groups)]
    remarks += [f"not finished, left out: {run.path} ({len(run.records)} epochs)" for run in unfinished]
    remarks.append("errors: mean ± standard deviation over the seeds; times, memory and operations: medians")
    if baseline is not None:
        remarks.append(f"speed-up: step time of {baseline.name} over that of the row")
    environment = groups[0].runs[0].finished["environment"]
    named = [f"{key} {environment[key]}" for key in ("jax", "jaxlib", "device", "dtype", "threads", "commit") if key in environment]
    return [*remarks, f"first row measured with {', '.join(named)}"]


def _step_times(groups: list[Group], num_rounds: int | None) -> tuple[Mapping[str, StepTimes], list[str]]:
    """Return step times, recorded by the trainings or measured now in several rounds, and warnings about them."""
    if num_rounds is None:
        times = {group.name: recorded(group) for group in groups}
        lines = doubts(groups, times) + cpu_doubts(groups)
        remedy = "other work on the machine, or batches of unequal size; --retime times all rows in turn"
        return times, [f"WARNING {line}; {remedy}" for line in lines]
    with raising():  # so that a signal also ends the process that is timed
        times, environment = retime(groups, num_rounds, lambda line: print(line, file=sys.stderr, flush=True))
    named = ", ".join(f"{key} {environment[key]}" for key in ("device", "dtype", "threads", "jax", "commit") if key in environment)
    how = f"steps and s/epoch: timed now, {num_rounds} rounds of all rows in turn, each in a fresh process ({named})"
    return times, [f"WARNING {line}; other work on the machine" for line in doubts(groups, times)] + [how]


def _time_steps(run_dir: Path) -> dict[str, object]:
    """Time the steps of one run, for `--retime`. A run with `tensor_product=auto` is timed with the products that it chose."""
    # Imported here: only the processes that compute load jax.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from mace_tp.cli.config_errors import to_config
    from mace_tp.config import Config
    from mace_tp.tensor_products.registry import TensorProductConfig
    from mace_tp.training.retiming import time_steps

    run = next(run for run in find_runs([run_dir]) if run.path == run_dir)  # folders below it may hold further runs
    try:
        config = to_config(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(run_dir / "config.yaml")))
    except OmegaConfBaseException as error:
        raise InputError(f"{run_dir / 'config.yaml'}: of another version of mace-tp ({' '.join(str(error).split())[:120]})") from error
    data = dataclasses.replace(config.data, test=None)
    products = TensorProductConfig(**run.finished["tensor_product"])
    return dataclasses.asdict(time_steps(dataclasses.replace(config, data=data, tensor_product=products)))


def _check(options: argparse.Namespace) -> None:
    if options.rounds < 1:
        raise InputError(f"--rounds {options.rounds}: must be positive")


def _write(folder: Path, rows: list[comparison_table.Row], remarks: list[str], groups: list[Group], unfinished: list[Run]) -> None:
    make_folder("--out", folder)
    try:
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
        description="Compare errors and costs of finished trainings. Runs that differ only in their seed are one row.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, or folders with run directories in them")
    parser.add_argument("--baseline", metavar="NAME", help="the row with speed-up 1 (default: the row of cg, if there is one)")
    retime_help = "time the training step of every row again on this machine, in turn, in fresh processes that read the data of the runs"
    parser.add_argument("--retime", action="store_true", help=retime_help)
    parser.add_argument("--rounds", type=int, default=3, help="how many times --retime times each row (default %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write comparison.md, .csv, .json and pictures")
    parser.add_argument("--anyway", action="store_true", help="compare runs with different data as well; the table says so")
    return parser
