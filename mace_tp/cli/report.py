"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from mace_tp.evaluation.errors_by_group import BadConfiguration, Breakdown
from mace_tp.evaluation.metrics import UNITS

_HEADINGS = {
    "energy_mae": "E MAE",
    "energy_rmse": "E RMSE",
    "energy_rmse_per_config": "total E RMSE",
    "force_mae": "F MAE",
    "force_rmse": "F RMSE",
    "stress_mae": "S MAE",
    "stress_rmse": "S RMSE",
}


def error_table(errors: Mapping[str, Mapping[str, float]], of: str = "data set", count: str = "num_configs") -> list[str]:
    """Return aligned lines: two lines of heading, then one for each data set (or what `of` names); `-` if there is no label.

    "E" is per atom; "total E" is the energy of a configuration.
    """
    shown = [name for name in _HEADINGS if any(name in values for values in errors.values())]
    width, widths = max([len(of), *(len(name) for name in errors)]), {name: max(len(_HEADINGS[name]), 9) for name in shown}
    lines = [f"{of:{width}}  {count.removeprefix('num_'):>7}" + "".join(f"  {_HEADINGS[name]:>{widths[name]}}" for name in shown)]
    lines.append(" " * (width + 9) + "".join(f"  {UNITS[name]:>{widths[name]}}" for name in shown))
    for name, values in errors.items():
        numbers = {column: f"{values[column]:.2f}" if column in values else "-" for column in shown}
        cells = "".join(f"  {number:>{widths[column]}}" for column, number in numbers.items())
        lines.append(f"{name:{width}}  {values[count]:7d}{cells}")
    return lines


def breakdown_lines(name: str, breakdown: Breakdown, num_worst: int) -> list[str]:
    """Return tables by element and by configuration type, if there are several, and the worst configurations."""
    lines: list[str] = []
    if len(breakdown.per_element) > 1:
        lines += error_table(breakdown.per_element, "element", "num_atoms")
    if len(breakdown.per_config_type) > 1:
        lines += error_table(breakdown.per_config_type, "config_type")
    lines += _worst_lines(breakdown, num_worst)
    return [f"{name}:", *(f"  {line}" for line in lines)] if lines else []


def _worst_lines(breakdown: Breakdown, num_worst: int) -> list[str]:
    lines: list[str] = []
    kinds = (
        (f"worst forces (RMSE, {UNITS['force_rmse']})", breakdown.worst_forces, lambda bad: f"{bad.force_rmse:.2f}"),
        (f"worst energies (predicted - label, {UNITS['energy_rmse']})", breakdown.worst_energies, lambda bad: f"{bad.energy_error:+.2f}"),
    )
    for heading, worst, error in kinds:
        if listed := worst[:num_worst]:
            lines += [heading, *_places([error(bad) for bad in listed], listed, with_types=len(breakdown.per_config_type) > 1)]
    return lines


def _places(errors: Sequence[str], worst: Sequence[BadConfiguration], *, with_types: bool) -> list[str]:
    """Return aligned lines of error, frame, formula and, if there are several, configuration type."""
    columns = [errors, [f"frame {bad.frame}" for bad in worst], [bad.formula for bad in worst]]
    if with_types:
        columns.append([bad.config_type for bad in worst])
    widths = [max(9, *map(len, words)) for words in columns]
    lines = zip(*columns, strict=True)
    return [
        f"  {first:>{widths[0]}}  " + "  ".join(f"{word:{width}}" for word, width in zip(rest, widths[1:], strict=True)).rstrip()
        for first, *rest in lines
    ]


def conservativity_lines(forces: str, dtype: str, measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of `--conservativity` from the values in the JSON."""
    note = "" if dtype == "float64" else f"; includes the rounding of {dtype}: --dtype float64 is better"
    lines = [f"conservativity of the {forces} forces (J = dF/dr = S + A, symmetric and antisymmetric){note}"]
    for name, values in measured.items():
        configurations, nve = values["configurations"], values["nve"]
        lines.append(f"{name}:")
        for c in configurations:
            how = f"all {c['num_probes']} basis vectors" if c["is_exact"] else f"{c['num_probes']} random vectors"
            error = "" if c["is_exact"] else f" ± {100 * c['rest_share_error']:.2g}"
            lines.append(
                f"  |J-Jᵀ|/|J| {c['asymmetry']:.3g}, |A|²/(|S|²+|A|²) {100 * c['rest_share']:.3g}{error} %, "
                f"work around a loop {c['loop_work']:.3g} meV ({how}; {c['source']})"
            )
        mean = values["mean"]
        lines.append(
            f"  mean of {len(configurations)}: |J-Jᵀ|/|J| {mean['asymmetry']:.3g}, |A|²/(|S|²+|A|²) {100 * mean['rest_share']:.3g} %, "
            f"work around a loop {mean['loop_work']:.3g} meV"
        )
        lines.append(_drift_line(nve, forces))
    return lines


def _drift_line(nve: Mapping[str, Any], forces: str) -> str:
    steps = f"{nve['num_steps']} of {nve['asked_steps']} steps of {nve['timestep']:g} fs from {nve['temperature']:g} K"
    run = f"{steps}, energy of the energy read-out, {forces} forces"
    if nve["drift"] is None:
        return f"  NVE: atoms are lost at once ({run})"
    lost = "; then atoms were lost" if nve["num_steps"] < nve["asked_steps"] else ""
    numbers = f"drift {nve['drift']:.3g} meV/atom/ps, spread {nve['spread']:.3g} meV/atom, in the end {nve['final_temperature']:.0f} K"
    return f"  NVE: {numbers} ({run}{lost})"
