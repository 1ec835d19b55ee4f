"""Plot of a run of molecular dynamics: energies, temperature and, if there is a stress, pressure against time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from mace_tp.plotting import COLORS, DPI
from mace_tp.simulation.md import Sample


def draw_run(samples: Sequence[Sample], num_atoms: int, title: str, path: Path) -> None:
    """Draw energies, temperature and pressure as a PNG file.

    Args:
        samples: at least one.
        num_atoms: of the structure.
        title: one or several lines, such as the ensemble and its energy drift.
        path: of the PNG file.
    """
    time = np.array([sample.time for sample in samples]) / 1000
    potential = 1000 / num_atoms * np.array([sample.potential_energy for sample in samples])
    total = 1000 / num_atoms * np.array([sample.total_energy for sample in samples])
    shown = {
        f"potential energy (meV/atom)\nfrom {samples[0].potential_energy:.3f} eV": potential - potential[0],
        f"total energy (meV/atom)\nfrom {samples[0].total_energy:.3f} eV": total - total[0],
        "temperature (K)": np.array([sample.temperature for sample in samples]),
    }
    if samples[0].pressure is not None:
        shown["pressure (GPa)"] = np.array([sample.pressure for sample in samples])
    if len({sample.volume for sample in samples}) > 1:
        shown["volume (Å³)"] = np.array([sample.volume for sample in samples])
    figure = Figure(figsize=(8, 0.8 + 1.9 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True)
    for axes, (label, values), color in zip(panels, shown.items(), COLORS, strict=False):
        axes.plot(time, values, color=color, linewidth=1.2)
        axes.set_ylabel(label, fontsize=9)
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    for axes in panels:
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("time (ps)")
    figure.align_ylabels()
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path, dpi=DPI)
