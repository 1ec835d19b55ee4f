"""Step times of the rows of a comparison, as the trainings recorded them or measured anew, and doubts about them."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mace_tp.errors import InputError
from mace_tp.evaluation.comparison import Group, Run

# Relative spread of quartiles, rounds or epochs above which a step time is uncertain.
_TRUSTED_SPREAD = 0.2
# CPU seconds per second: a program with a core of its own has one.
_FREE_CPU = 0.8
WORKER = "--time-steps-of"


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """Step times of one row of the comparison; an unknown time is None."""

    seconds: float | None  # median
    quartiles: tuple[float, float] | None  # s
    least: float | None  # s
    cpu_per_wall: float | None  # CPU seconds of the process per second
    epoch_seconds: float | None  # of the updates of an epoch


@dataclasses.dataclass(frozen=True)
class Timed:
    """Measurements of one process that timed training steps."""

    step_seconds: list[float]  # one per window of several steps
    cpu_seconds: list[float]  # per step, for the same windows
    num_batches: int  # of an epoch
    environment: dict[str, str | int]


def recorded(group: Group) -> StepTimes:
    """Step times as the trainings recorded them: medians over the runs. The quartiles span all runs, to show differences between runs."""
    low, high, least = (group.values(f"step_seconds_{name}") for name in ("q1", "q3", "min"))
    medians = group.values("step_seconds")
    quartiles = (min([*low, *medians]), max([*high, *medians])) if len(low) or len(medians) > 1 else None
    return StepTimes(
        seconds=_median(medians),
        quartiles=quartiles,
        least=min(least, default=None),
        cpu_per_wall=_median(group.values("cpu_per_wall")),
        epoch_seconds=_median(group.values("epoch_seconds")),
    )


def measured(rounds: Sequence[Timed]) -> StepTimes:
    """Step times from several rounds: the median of the rounds' medians. The quartiles of all windows are widened to span the rounds."""
    medians = [float(np.median(timed.step_seconds)) for timed in rounds]
    windows = np.concatenate([timed.step_seconds for timed in rounds])
    low, high = np.quantile(windows, [0.25, 0.75])
    seconds = float(np.median(medians))
    return StepTimes(
        seconds=seconds,
        quartiles=(float(min(low, *medians)), float(max(high, *medians))),
        least=float(windows.min()),
        cpu_per_wall=float(sum(sum(timed.cpu_seconds) for timed in rounds) / windows.sum()),
        epoch_seconds=seconds * rounds[0].num_batches,
    )


def retime(
    groups: Sequence[Group], num_rounds: int, report: Callable[[str], None], time_run: Callable[[Run], Timed] | None = None
) -> tuple[dict[str, StepTimes], dict[str, str | int]]:
    """Time the training step of every row on this machine, A B C A B C ..., each time in a fresh process.

    The runs of a row differ only in their seeds, so the first run stands for all.

    Args:
        groups: the rows.
        num_rounds: number of measurements of each row.
        report: receives a line after each measurement.
        time_run: times a run; by default in a process of its own.

    Returns:
        Times by the name of the row, and the environment of the measurement.

    Raises:
        InputError: the data of a run cannot be read again, or its step cannot be compiled here.
    """
    rounds: dict[str, list[Timed]] = {group.name: [] for group in groups}
    for number in range(1, num_rounds + 1):
        for group in groups:
            timed = (time_run or _in_fresh_process)(group.runs[0])
            rounds[group.name].append(timed)
            report(f"round {number} of {num_rounds}: {group.name}, {1000 * np.median(timed.step_seconds):.1f} ms a step")
    return {name: measured(of_row) for name, of_row in rounds.items()}, rounds[groups[0].name][0].environment


def _in_fresh_process(run: Run) -> Timed:
    # -P, as for the command itself: Python must not import from the user's folder.
    command = [sys.executable, "-P", "-m", "mace_tp", "compare", WORKER, str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    try:
        return Timed(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, TypeError, json.JSONDecodeError) as error:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        reason = f"{said[-1].removeprefix('mace-tp compare: ')} (the data of a run are read again, by the paths in its config.yaml)"
        raise InputError(f"--retime: {run.path} cannot be timed: {reason}") from error


def doubts(groups: Sequence[Group], times: Mapping[str, StepTimes]) -> list[str]:
    """A line for every row with an uncertain step time: a large spread, or a process that had only part of the CPU."""
    lines = []
    for group in groups:
        row = times[group.name]
        if row.seconds and row.quartiles and row.quartiles[1] - row.quartiles[0] > _TRUSTED_SPREAD * row.seconds:
            low, high = (1000 * value for value in row.quartiles)
            spread = 100 * (high - low) / (1000 * row.seconds)
            lines.append(f"step time of {group.name}: {low:.1f} to {high:.1f} ms around {1000 * row.seconds:.1f} ({spread:.0f} %)")
        if row.cpu_per_wall is not None and row.cpu_per_wall < _FREE_CPU and _is_cpu(group):
            lines.append(f"step time of {group.name}: the process had {row.cpu_per_wall:.2f} CPU seconds for each second of its steps")
    return lines


def cpu_doubts(groups: Sequence[Group]) -> list[str]:
    """A line for every row in which some epochs or runs had less CPU than the rest, because the machine was busy with other work."""
    lines = []
    for group in groups:
        shares = [record["cpu_per_wall"] for run in group.runs for record in run.records[1:] if record.get("cpu_per_wall") is not None]
        if len(shares) < 2 or not _is_cpu(group):
            continue
        low, high = np.quantile(shares, [0.1, 0.9])
        if low < (1 - _TRUSTED_SPREAD) * high:
            lines.append(f"step time of {group.name}: epochs had {low:.2f} to {high:.2f} CPU seconds for each second of their steps")
    return lines


def _is_cpu(group: Group) -> bool:
    """Whether all runs were on a CPU. On other devices CPU seconds mean nothing: the process may wait idly or busily."""
    return all(str(run.finished["environment"].get("device", "")).startswith("cpu") for run in group.runs)


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None
