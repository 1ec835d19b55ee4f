"""What a trained model must do: learn a few frames by heart, and conserve the energy of a molecule that moves by its forces."""

import json
import subprocess
import sys

import ase.io
import ase.units
import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from toy_data import write

from mace_tp.cli.shipped import shipped_data
from mace_tp.data.batching import BatchLoader, choose_buckets
from mace_tp.data.configuration import Configuration, LabelKeys
from mace_tp.data.graphs import build_graphs
from mace_tp.data.readers import read_configurations
from mace_tp.evaluation.batches import make_eval_step
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import Model, load_model

pytestmark = pytest.mark.slow

SMALL = ("model.num_channels=8", "model.l_max=2", "logger.progress=false")


def _train(*arguments: str) -> None:
    command = [sys.executable, "-P", "-m", "mace_tp", "train", *arguments, *SMALL]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)


class _Potential(Calculator):
    """The model as ASE wants it, one structure at a time, compiled for one shape."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._step = make_eval_step(make_predict(model.graphdef, model.architecture.cutoff))
        self._buckets = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        frame = Configuration(atoms.numbers, atoms.positions, atoms.cell[:], tuple(atoms.pbc), None, None, None, "", "dynamics")
        statistics = self._model.statistics
        graphs = build_graphs([frame], statistics.atomic_numbers, statistics.atomic_energies, self._model.architecture.cutoff)
        self._buckets = self._buckets or choose_buckets(graphs, 1, shuffle=False)
        loader = BatchLoader(graphs, 1, self._buckets, np.float64, shuffle=False)
        prediction, _ = self._step(self._model.params, next(loader.epoch(0)))
        self._buckets = loader.buckets
        self.results = {"energy": float(prediction.energy[0]), "forces": np.asarray(prediction.forces)[: len(atoms)]}


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
    model = load_model(tmp_path / "run", np.dtype(np.float64))
    start = read_configurations(shipped_data("ethanol/train_300K.xyz.xz"), LabelKeys())[0]
    spreads = {}
    for femtoseconds in (0.5, 0.25):
        atoms = ase.Atoms(numbers=start.atomic_numbers, positions=start.positions, calculator=_Potential(model))
        MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
        dynamics, energies = VelocityVerlet(atoms, femtoseconds * ase.units.fs), []
        dynamics.attach(lambda a=atoms, e=energies: e.append(a.get_total_energy()))
        dynamics.run(round(1000 * 0.5 / femtoseconds))
        per_atom = np.array(energies) / len(atoms)
        drift = np.polynomial.Polynomial.fit(np.linspace(0, 1, len(per_atom)), per_atom, 1).convert().coef[1]
        assert abs(drift) < 1e-4, "eV/atom"
        spreads[femtoseconds] = np.std(per_atom)

    assert 3 < spreads[0.5] / spreads[0.25] < 5, "by dt²"
