"""Error tables for the terminal."""

from collections.abc import Mapping

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
