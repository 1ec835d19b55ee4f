"""Tables for the terminal."""

from collections.abc import Mapping
from typing import Any

_COLUMNS = {
    "energy_mae": ("E MAE", "meV/atom"),
    "energy_rmse": ("E RMSE", "meV/atom"),
    "energy_rmse_per_config": ("E RMSE", "meV"),
    "force_mae": ("F MAE", "meV/Å"),
    "force_rmse": ("F RMSE", "meV/Å"),
    "stress_mae": ("S MAE", "meV/Å³"),
    "stress_rmse": ("S RMSE", "meV/Å³"),
}


def error_table(errors: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Aligned lines: a heading of two, then one for each data set; `-` where there is no label."""
    shown = [name for name in _COLUMNS if any(name in values for values in errors.values())]
    width = max([len("data set"), *(len(name) for name in errors)])
    lines = [f"{'data set':{width}}  {'configs':>7}" + "".join(f"  {_COLUMNS[name][0]:>9}" for name in shown)]
    lines.append(" " * (width + 9) + "".join(f"  {_COLUMNS[name][1]:>9}" for name in shown))
    for name, values in errors.items():
        cells = "".join(f"  {values[column]:9.2f}" if column in values else f"  {'-':>9}" for column in shown)
        lines.append(f"{name:{width}}  {values['num_configs']:7d}{cells}")
    return lines


def conservativity_lines(forces: str, dtype: str, measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What `--conservativity` measured of each file, as in the JSON, and how."""
    note = "" if dtype == "float64" else f"; in {dtype}, whose rounding is part of it: --dtype float64 is better"
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
