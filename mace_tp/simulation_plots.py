"""A picture of a run of molecular dynamics: energies, temperature and, where there is one, the pressure against time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from mace_tp.simulation import Sample, energy_drift

_COLORS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#000000")  # of Okabe and Ito's palette
_DPI = 100


def draw_run(samples: Sequence[Sample], num_atoms: int, title: str, path: Path) -> None:
    """Write the picture.

    Args:
        samples: at least one.
        num_atoms: of the structure.
        title: such as the ensemble and the file.
        path: of the PNG.
    """
    time = np.array([sample.time for sample in samples]) / 1000
    potential, total = (
        1000 / num_atoms * np.array([getattr(sample, name) for sample in samples]) for name in ("potential_energy", "total_energy")
    )
    curves = {
        f"potential energy (meV/atom)\nfrom {samples[0].potential_energy:.3f} eV": potential - potential[0],
        f"total energy (meV/atom)\nfrom {samples[0].total_energy:.3f} eV": total - total[0],
        "temperature (K)": np.array([sample.temperature for sample in samples]),
        "pressure (GPa)": np.array([np.nan if sample.pressure is None else sample.pressure for sample in samples]),
        "volume (Å³)": np.array([np.nan if sample.volume is None else sample.volume for sample in samples]),
    }
    shown = {label: values for label, values in curves.items() if np.isfinite(values).any() and (label != "volume (Å³)" or np.ptp(values))}
    figure = Figure(figsize=(8, 0.8 + 1.9 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True)
    for axes, (label, values), color in zip(panels, shown.items(), _COLORS, strict=False):
        axes.plot(time, values, color=color, linewidth=1.2)
        axes.set_ylabel(label, fontsize=9)
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    for axes in panels:
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("time (ps)")
    figure.align_ylabels()
    drift = energy_drift(list(samples), num_atoms)
    told = "" if drift is None else f"\ntotal energy: drift {drift[0]:.3g} meV/atom/ps, spread {drift[1]:.3g} meV/atom"
    figure.suptitle(title + told, fontsize=10, parse_math=False)
    figure.savefig(path, dpi=_DPI)
