"""Minutes of training: the data that ship within the time and error that are promised, and real data of other kinds."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import read_configurations

pytestmark = pytest.mark.slow

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared_data = pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data, which is no part of the repository")
# Two minutes of training; small enough that they are enough.
SHORT = ("trainer.max_minutes=2", "model.num_channels=8", "model.l_max=2", "data.batch_size=4", "data.max_configurations=200")
TRAININGS = {
    "aspirin": ("rmd17/aspirin_train_01.extxyz", "rmd17/aspirin_test_01.extxyz", f"data.isolated_atoms={SHARED}/rmd17/isolated_atoms.xyz"),
    "silicon": ("silicon/Si_training.extxyz", "silicon/Si_test.extxyz", "data.atomic_energies=least_squares"),
    "solvents": ("solvents/solvent_train.xyz", "solvents/solvent_test.xyz", "data.atomic_energies=isolated"),
}


def train(folder: Path, *arguments: str) -> tuple[Path, float]:
    """Run `mace-tp train` in a process of its own: (run directory, seconds from command to end)."""
    start = time.monotonic()
    command = [sys.executable, "-P", "-m", "mace_tp", "train", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    [results] = folder.rglob("results.json")
    return results.parent, time.monotonic() - start


def force_rms(path: Path) -> float:
    """Root mean square of the labelled force components, meV/Å: the error of a model that predicts none."""
    configurations = [frame for frame in read_configurations(path, LabelKeys())[:200] if frame.forces is not None]
    return 1000 * float(np.sqrt(np.mean(np.concatenate([frame.forces.ravel() for frame in configurations]) ** 2)))


@needs_shared_data
@pytest.mark.parametrize("name", TRAININGS)
def test_a_short_training_learns_real_data(name, tmp_path):
    train_file, test_file, energies = TRAININGS[name]

    run_dir, _ = train(tmp_path, f"data.train={SHARED}/{train_file}", f"data.test={SHARED}/{test_file}", energies, *SHORT)

    results = json.loads((run_dir / "results.json").read_text())
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    buckets = (run_dir / "train.log").read_text().partition("padded to ")[2].partition(";")[0].split(", ")
    assert results["test"][f"{SHARED}/{test_file}"]["force_rmse"] < 0.5 * force_rms(SHARED / test_file)
    assert metrics[-1]["force_rmse"] < 0.7 * metrics[0]["force_rmse"] or metrics[-1]["force_rmse"] < 0.2 * force_rms(SHARED / test_file)
    assert 1 <= results["num_compilations"] <= len(buckets) + 1, "one for each bucket, and one that a rare batch may need"
    assert ("stress_mae" in results["valid"]) == (name == "silicon")


def test_the_command_without_arguments_keeps_its_promise(tmp_path):
    run_dir, seconds = train(tmp_path)

    results = json.loads((run_dir / "results.json").read_text())
    [force_rmse] = [errors["force_rmse"] for path, errors in results["test"].items() if "test_300K" in path]
    assert results["epochs"] == 100, "a machine a third as fast as that of README.md gets to the end"
    assert force_rmse < 10, "meV/Å; 6.9 in README.md"
    assert seconds - results["compile_seconds"] < 660, "from command to end, data and plots included"
    assert run_dir.relative_to(tmp_path).parts[0] == "runs"
    assert {"config.yaml", "metrics.jsonl", "results.json", "checkpoints", "model", "plots", "train.log"} <= {
        p.name for p in run_dir.iterdir()
    }
