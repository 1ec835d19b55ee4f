"""From the command line: a training that starts from another model, with parts of it frozen."""

import shutil
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp


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
