"""The command in this process: a runner, toy data of molecules and crystals, and one finished training that many tests look at."""

import contextlib
import dataclasses
import io
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from hydra.core.global_hydra import GlobalHydra

from mace_tp.cli.main import main
from mace_tp.saved_model import Model, load_model

# As small as a model can be that still has every part.
TINY = (
    "model.cutoff=3", "model.l_max=1", "model.hidden_irreps=0e", "model.correlation=2", "model.num_channels=2", "model.num_interactions=1",
    "model.radial_mlp=[4]", "model.num_bessel=4", "data.batch_size=2", "dtype=float64", "device=cpu",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def run() -> Callable[..., Outcome]:
    """Runs `mace-tp ARGUMENTS` in this process, and leaves the process as it was."""

    def run_command(*arguments: str | Path) -> Outcome:
        GlobalHydra.instance().clear()
        # With the tunables set, the command does not start itself anew.
        environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MACE_TP_STARTED": str(time.monotonic())}
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, environment),
            mock.patch.object(sys, "argv", ["mace-tp", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _same_logging(),
        ):
            code = _exit_code(main)
        return Outcome(code, out.getvalue(), err.getvalue())

    return run_command


def _exit_code(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as error:
        if isinstance(error.code, str):  # as the interpreter does
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    return 0


@contextlib.contextmanager
def _same_logging():
    logger = logging.getLogger("mace_tp")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def label(atoms: ase.Atoms, *names: str) -> ase.Atoms:
    """A copy with labels of the effective medium theory potential, as ASE writes them."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    results = {name: atoms.calc.get_property(name, atoms) for name in names}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def molecules(count: int, seed: int) -> list[ase.Atoms]:
    """Distorted molecules of 3 and 9 atoms, with energy and forces."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        atoms = molecule(("H2O", "CH3CH2OH")[index % 2])
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        frames.append(label(atoms, "energy", "forces"))
    return frames


def crystals(count: int, seed: int) -> list[ase.Atoms]:
    """Distorted copper cells smaller than the cutoff, with energy, forces and stress."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        strain = rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        frames.append(label(atoms, "energy", "forces", "stress"))
    return frames


def write(path: Path, frames: list[ase.Atoms]) -> Path:
    ase.io.write(path, frames, format="extxyz")
    return path


def isolated_atoms(*symbols: str) -> list[ase.Atoms]:
    frames = [label(ase.Atoms(symbol), "energy", "forces") for symbol in symbols]
    for frame in frames:
        frame.info["config_type"] = "IsolatedAtom"
    return frames


@pytest.fixture(scope="session")
def toys(tmp_path_factory) -> Path:
    """A folder with `train.xyz`, `test.xyz`, `isolated.xyz` (molecules) and `crystals.xyz` (with stress)."""
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
def model(finished) -> Model:
    return load_model(finished[0])
