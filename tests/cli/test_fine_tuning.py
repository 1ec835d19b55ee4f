"""From the command line: a training that starts from another model, with parts of it frozen."""

import json
import shutil
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
from command import assert_one_line


def _last_state(run_dir: Path) -> dict:
    last = max((int(path.name), path) for path in (run_dir / "checkpoints").iterdir() if path.name.isdigit())[1]
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore((last / "arrays").absolute())["state"]


def _embedding(parameters: dict) -> np.ndarray:
    return parameters["embedding"]["weight"]["value"]


def test_what_is_frozen_when_a_run_is_continued_stays_at_its_average(run, on_molecules, finished, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(finished[0], run_dir)
    before = _last_state(run_dir)
    average = _embedding(before["ema_params"])
    assert np.abs(_embedding(before["params"]) - average).max() > 1e-9, "they differ"

    outcome = run(*on_molecules, "trainer.max_epochs=5", "trainer.resume=anyway", "optimizer.freeze=[embedding]", f"run_dir={run_dir}")

    assert outcome.code == 0, outcome.err
    assert "continuing after epoch 4" in outcome.out
    after = _last_state(run_dir)
    assert int(after["step"]) > int(before["step"])
    for kind in ("params", "ema_params"):
        np.testing.assert_array_equal(_embedding(after[kind]), average)


def test_a_training_can_take_the_energies_of_atoms_from_the_model_and_resume_without_it(run, on_molecules, finished, tmp_path):
    alone = [argument for argument in on_molecules if not argument.startswith("data.isolated_atoms")]
    arguments = (*alone, "data.atomic_energies=model", "trainer.max_epochs=1", f"run_dir={tmp_path}/run")
    assert_one_line(run(*arguments), "data.atomic_energies=model: takes the E0s of model.init_from, which is not set")

    outcome = run(*arguments, f"model.init_from={finished[0]}", "optimizer.learning_rate=0.001", "optimizer.freeze=[embedding]")

    assert outcome.code == 0, outcome.err
    assert "(those of model.init_from)" in outcome.out and "learning_rate" not in outcome.out and "other E0s" not in outcome.out
    there, here = (json.loads((folder / "model" / "model.json").read_text())["statistics"] for folder in (finished[0], tmp_path / "run"))
    assert here == there

    outcome = run(
        *arguments, "model.init_from=gone", "optimizer.learning_rate=0.001", "optimizer.freeze=[embedding]", "trainer.resume=auto"
    )
    assert outcome.code == 0, outcome.err


def test_the_learning_rate_for_random_weights_is_warned_of_where_they_are_not(run, on_molecules, finished, tmp_path):
    outcome = run(*on_molecules, "trainer.max_epochs=1", f"model.init_from={finished[0]}", f"run_dir={tmp_path}/run")
    assert f"optimizer.learning_rate=0.03 suits random weights and may spoil those of {finished[0]}; try 0.001" in outcome.out
