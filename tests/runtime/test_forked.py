"""A process that is forked after jax was used cannot compute. Every public entry says so at once instead of waiting forever."""

import dataclasses
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ase
import numpy as np
import pytest

from mace_tp import Calculator, Config, load_exported, load_model, train
from mace_tp.errors import InputError
from mace_tp.evaluation.evaluate import Evaluator
from mace_tp.model.export.write import export_model
from mace_tp.model.potential import Potential
from mace_tp.model.saved_model import create_model, save_model
from mace_tp.simulation.jax_md import edge_energy
from mace_tp.tensor_products.registry import TensorProductConfig

pytestmark = [
    pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="nothing is forked here"),
    pytest.mark.filterwarnings("ignore:os.fork"),
]
SECONDS = 60  # a call that would wait forever fails after this time
DIMER = ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.15]])


@pytest.fixture(scope="module")
def model(architecture, statistics) -> Potential:
    shape = dataclasses.replace(architecture, l_max=1, correlation=2, radial_mlp=[8])
    return create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed=0)


@pytest.fixture(scope="module")
def in_fork() -> Callable[..., Any]:
    """Calls a function in a process that is forked now; it is inherited, not pickled."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        global _inherited
        _inherited = function
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply_async(_call_inherited, arguments).get(timeout=SECONDS)

    return call


def _call_inherited(*arguments: Any) -> Any:
    return _inherited(*arguments)


def _energy(calculator: Calculator) -> float:
    return calculator.get_potential_energy(DIMER)


@pytest.mark.parametrize("is_used", [True, False], ids=["used before", "not used before"])
def test_a_calculator_that_is_inherited_refuses(is_used, model, in_fork):
    calculator = Calculator(model)
    if is_used:
        calculator.get_potential_energy(DIMER)
        assert in_fork(_energy, calculator) == calculator.results["energy"], "known results are there"
        calculator.reset()
    with pytest.raises(InputError, match=r"^jax was in use before this process was forked.*start processes with spawn: .*\)$"):
        in_fork(lambda: _energy(calculator))


def test_a_calculator_that_is_sent_refuses_when_it_is_used_and_the_pool_goes_on(model, in_fork):
    """A pool waits forever for a task that cannot be unpickled."""
    with pytest.raises(InputError, match="start processes with spawn"):
        in_fork(_energy, Calculator(model))
    with pytest.raises(InputError, match="start processes with spawn"):
        in_fork(lambda model: Calculator(model).get_potential_energy(DIMER), model)


def test_everything_public_that_computes_refuses(model, molecule, in_fork, tmp_path):
    save_model(tmp_path / "model", model, {})
    export_model(tmp_path / "model.export", model)
    evaluator, exported = Evaluator(model, 1), load_exported(tmp_path / "model.export")
    pair = np.array([0, 1])
    structure = DIMER.positions, DIMER.numbers, pair, pair[::-1], np.zeros((2, 3))
    (tmp_path / "run").mkdir()
    calls = {
        "load_model": lambda: load_model(tmp_path),
        "astype": lambda: model.astype(np.dtype(np.float32)),
        "Calculator": lambda: Calculator(tmp_path),
        "Evaluator": lambda: evaluator.evaluate([molecule]),
        "exported": lambda: exported(*structure),
        "load_exported": lambda: load_exported(tmp_path / "model.export")(*structure),
        "edge_energy": lambda: edge_energy(model, DIMER.numbers),
        "train": lambda: train(Config(), tmp_path / "run"),
    }

    def refusals() -> dict[str, str]:
        said = {}
        for name, call in calls.items():
            try:
                said[name] = repr(call())
            except InputError as error:
                said[name] = str(error)
        return said

    for name, said in in_fork(refusals).items():
        assert "start processes with spawn" in said, name


def test_a_model_that_is_pickled_is_the_same(model):
    copy = pickle.loads(pickle.dumps(model))
    assert Calculator(copy).get_potential_energy(DIMER) == Calculator(model).get_potential_energy(DIMER)


SCRIPT = """
import multiprocessing, sys
import ase
import mace_tp

def energy(path):
    dimer = ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.15]])
    return mace_tp.Calculator(path).get_potential_energy(dimer)

if __name__ == "__main__":
    {before}
    with multiprocessing.get_context("{start}").Pool(1) as pool:
        print(pool.apply_async(energy, (sys.argv[1],)).get(timeout=60))
"""


@pytest.mark.parametrize(
    "start, before", [("spawn", "energy(sys.argv[1])"), ("fork", "pass"), ("fork", "from mace_tp import Calculator, Evaluator")]
)
def test_processes_compute_where_they_are_spawned_or_jax_was_only_imported(start, before, model, tmp_path):
    save_model(tmp_path / "model", model, {})
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(start=start, before=before))
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=3 * SECONDS)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(Calculator(tmp_path).get_potential_energy(DIMER), rel=1e-12)
