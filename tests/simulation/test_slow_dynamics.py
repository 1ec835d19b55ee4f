"""What a trained model must do: learn a few frames by heart, and conserve the energy of a molecule that moves by its forces."""

import json
import subprocess
import sys

import ase.io
import ase.units
import numpy as np
import pytest
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from toy_data import write

from mace_tp import Calculator
from mace_tp.cli.shipped import shipped_data
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import read_configurations

pytestmark = pytest.mark.slow

SMALL = ("model.num_channels=8", "model.l_max=2", "logger.progress=false")


def _train(*arguments: str) -> None:
    command = [sys.executable, "-P", "-m", "mace_tp", "train", *arguments, *SMALL]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)


def test_four_frames_are_learnt_by_heart(tmp_path):
    frames = ase.io.read(shipped_data("ethanol/train_300K.xyz.xz"), "::250", format="extxyz")[:4]
    four = write(tmp_path / "four.xyz", frames)

    _train(
        f"data.train={four}", f"data.valid={four}", f"data.isolated_atoms={shipped_data('ethanol/isolated_atoms.xyz.xz')}",
        "data.batch_size=4", "trainer.max_epochs=2000", "trainer.checkpoint_minutes=10", f"run_dir={tmp_path}/run",
    )  # fmt: skip

    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["environment"]["dtype"] == "float32" and results["steps"] == 2000 and results["num_skipped"] == 0
    assert results["valid"]["force_rmse"] < 5, "meV/Å"
    losses = [json.loads(line)["train_loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(loss is not None for loss in losses)


def test_energy_is_conserved(tmp_path):
    _train("experiment=ethanol", "trainer.max_minutes=1", "data.max_configurations=200", f"run_dir={tmp_path}/run")
    calculator = Calculator(tmp_path / "run", dtype="float64")
    start = read_configurations(shipped_data("ethanol/train_300K.xyz.xz"), LabelKeys())[0]
    spreads = {}
    for femtoseconds in (0.5, 0.25):
        atoms = ase.Atoms(numbers=start.atomic_numbers, positions=start.positions, calculator=calculator)
        MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
        dynamics, energies = VelocityVerlet(atoms, femtoseconds * ase.units.fs), []
        dynamics.attach(lambda a=atoms, e=energies: e.append(a.get_total_energy()))
        dynamics.run(round(1000 * 0.5 / femtoseconds))
        per_atom = np.array(energies) / len(atoms)
        drift = np.polynomial.Polynomial.fit(np.linspace(0, 1, len(per_atom)), per_atom, 1).convert().coef[1]
        assert abs(drift) < 1e-4, "eV/atom"
        spreads[femtoseconds] = np.std(per_atom)

    assert 3 < spreads[0.5] / spreads[0.25] < 5, "by dt²"
