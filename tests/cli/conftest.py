"""The command in this process: a runner, toy data of molecules and crystals, and one finished training that many tests look at."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from command import TINY, Outcome, run_command
from toy_data import crystals, isolated_atoms, label, molecules, write

import mace_tp.cli.train
from mace_tp.config import Config


@pytest.fixture(scope="session")
def run() -> Callable[..., Outcome]:
    """Runs `mace-tp ARGUMENTS` in this process, and leaves the process as it was."""
    return run_command


@pytest.fixture(scope="session")
def toys(tmp_path_factory) -> Path:
    """A folder with `train.xyz`, `valid.xyz`, `test.xyz` and `isolated.xyz` (molecules), and `crystals.xyz` (with stress)."""
    folder = tmp_path_factory.mktemp("toys")
    write(folder / "train.xyz", molecules(10, seed=0))
    write(folder / "valid.xyz", molecules(4, seed=1))
    write(folder / "test.xyz", molecules(6, seed=2))
    write(folder / "isolated.xyz", isolated_atoms("H", "C", "O"))
    write(folder / "crystals.xyz", crystals(8, seed=3))
    return folder


@pytest.fixture(scope="session")
def on_molecules(toys) -> tuple[str, ...]:
    """Overrides for a tiny training on the molecules; the run directory is left to say."""
    return (
        "train", f"data.train={toys}/train.xyz", f"data.valid={toys}/valid.xyz", f"data.test={toys}/test.xyz",
        f"data.isolated_atoms={toys}/isolated.xyz", "trainer.max_epochs=4", *TINY,
    )  # fmt: skip


@pytest.fixture(scope="session")
def finished(run, on_molecules, tmp_path_factory) -> tuple[Path, Outcome]:
    """A finished training: its run directory, and what the terminal saw."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    outcome = run(*on_molecules, f"run_dir={run_dir}")
    assert outcome.code == 0, outcome.err
    return run_dir, outcome


@pytest.fixture(scope="session")
def make_crystal() -> Callable[[Path], Path]:
    """Writes one crystal of carbon and oxygen, with stress, which the model of the molecules can predict."""

    def make(path: Path) -> Path:
        atoms = bulk("CO", "rocksalt", a=3.6, cubic=True)
        atoms.positions += np.random.default_rng(4).normal(scale=0.05, size=atoms.positions.shape)
        return write(path, [label(atoms, "energy", "forces", "stress")])

    return make


@pytest.fixture
def composed(monkeypatch, run, tmp_path) -> Callable[..., Config]:
    """The configuration that `mace-tp train OVERRIDES` would train with."""

    def compose(*overrides: str | Path) -> Config:
        configs: list[Config] = []
        with monkeypatch.context() as patch:
            patch.setattr(mace_tp.cli.train, "train", lambda config, run_dir, started: configs.append(config) or {})
            patch.setattr(mace_tp.cli.train, "_report", lambda results, run_dir: None)
            outcome = run("train", f"run_dir={tmp_path}/{time.monotonic_ns()}", *overrides)
        assert outcome.code == 0, outcome.err
        return configs[0]

    return compose
