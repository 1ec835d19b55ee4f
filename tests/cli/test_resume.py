"""Trainings that continue with different data, another end or in another place: what they keep, measure again, and refuse."""

import itertools
import json
import math
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from command import Outcome, assert_one_line
from toy_data import crystals, isolated_atoms, label, molecules, write

from mace_tp.data.fingerprint import digest_of_graphs
from mace_tp.data.graphs import build_graphs
from mace_tp.model.programs import CompiledStep
from mace_tp.model.saved_model import create_model, load_model
from mace_tp.training import validation
from mace_tp.training.loggers import TrainingProgress
from mace_tp.training.schedule import CosineSchedule


def _results(run_dir: Path) -> dict:
    return json.loads((run_dir / "results.json").read_text())


def _statistics(run_dir: Path) -> dict:
    return json.loads((run_dir / "model" / "model.json").read_text())["statistics"]


def _losses(run_dir: Path) -> dict[int, float]:
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return {line["epoch"]: line["valid_loss"] for line in lines}


@pytest.fixture
def resume(finished, run, on_molecules, tmp_path) -> Iterator[Callable[..., Outcome]]:
    """Continues a copy of the finished run, in `run`, with its own line and what is given."""
    shutil.copytree(finished[0], tmp_path / "run")
    yield lambda *more: run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=anyway", *more)


# Statistics


def test_other_data_leave_the_function_of_a_finished_run_as_it_is(finished, resume, toys, tmp_path):
    outcome = resume(f"data.train={toys}/test.xyz")

    assert outcome.code == 0 and "nothing is left to train" in outcome.out
    assert _statistics(tmp_path / "run") == _statistics(finished[0])
    assert _results(tmp_path / "run")["test"] == _results(finished[0])["test"]


def test_the_errors_of_a_finished_run_are_of_the_data_and_the_model_that_are_there_now(resume, toys, tmp_path):
    outcome = resume(f"data.valid={toys}/test.xyz")

    found = _results(tmp_path / "run")
    assert found["valid"] == found["test"][f"{toys}/test.xyz"]
    assert found["data"]["valid"]["configurations"] == 6
    assert re.search(rf"validation +6 .*{found['valid']['force_rmse']:.2f}", outcome.out)


def test_other_energies_of_atoms_are_told_and_not_taken(finished, resume, tmp_path):
    atoms = isolated_atoms("H", "C", "O")
    atoms[0] = label(atoms[0], "energy", "forces")
    atoms[0].calc.results["energy"] += 1.5
    atoms[0].info["config_type"] = "IsolatedAtom"

    outcome = resume(f"data.isolated_atoms={write(tmp_path / 'atoms.xyz', atoms)}", "trainer.max_epochs=5")

    assert outcome.code == 0, outcome.err
    assert re.search(r"the E0s have changed: H \S+ eV then, \S+ eV now; the model keeps its own", outcome.out)
    assert "kept from the run that is resumed" in outcome.out
    assert _statistics(tmp_path / "run") == _statistics(finished[0])
    assert "| E0s | those with which the training began |" in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")


# The best model


def _anew(outcome: Outcome) -> float:
    """Return the validation loss of the kept best model, measured again."""
    return float(re.search(r"the kept best model, of epoch \d+, had a validation loss of \S+ and now has (\S+),", outcome.out)[1])


def _assert_best_of_all(run_dir: Path, kept: float, first: int) -> None:
    """The best is that of the new epochs and the kept one."""
    losses = {epoch: loss for epoch, loss in _losses(run_dir).items() if epoch >= first}
    best = _results(run_dir)["best_epoch"]
    assert best >= first if min(losses.values()) < kept * 0.999 else best < first
    assert best < first or losses[best] == min(losses.values())


def test_the_kept_best_is_measured_anew_on_other_validation_data(resume, tmp_path):
    frames = molecules(4, seed=5)
    for frame in frames:  # beside which every error is small
        frame.calc.results["forces"] = 30 * frame.calc.results["forces"]
    hard = write(tmp_path / "hard.xyz", frames)

    outcome = resume(f"data.valid={hard}", f"data.train={hard}", "trainer.max_epochs=6")

    assert outcome.code == 0, outcome.err
    assert _anew(outcome) > 100 * _losses(tmp_path / "run")[4]
    _assert_best_of_all(tmp_path / "run", _anew(outcome), first=5)
    assert _results(tmp_path / "run")["best_epoch"] > 4, "the new epochs fit the new data better"


def test_the_kept_best_is_measured_anew_with_other_loss_weights(finished, resume, tmp_path):
    outcome = resume("loss.stage_two.forces_weight=1e4", "trainer.max_epochs=6")

    assert outcome.code == 0, outcome.err
    assert _anew(outcome) > 10 * _losses(finished[0])[4]
    _assert_best_of_all(tmp_path / "run", _anew(outcome), first=5)


def test_the_kept_best_is_measured_anew_where_a_later_end_leads_back_to_stage_one(resume, tmp_path):
    outcome = resume("trainer.max_epochs=12", "loss.stage_two.start=0.9")

    assert outcome.code == 0, outcome.err
    assert _anew(outcome) < _losses(tmp_path / "run")[4], "stage one gives less weight to energies"


def test_the_best_loss_stays_where_nothing_of_it_has_changed(resume):
    outcome = resume("trainer.max_epochs=5", "optimizer.learning_rate=0.001")

    assert outcome.code == 0 and "measured" not in outcome.out and "the kept best model" not in outcome.out


# Another model


def test_other_elements_are_refused_by_name(resume, tmp_path):
    outcome = resume(
        f"data.train={write(tmp_path / 'copper.xyz', crystals(3, seed=0))}", "data.valid=null", "data.atomic_energies=least_squares"
    )

    assert_one_line(outcome, "trainer.resume: the training data have Cu", "does not know", "its elements are H C O")


@pytest.mark.parametrize("change", ["model.num_channels=3", "dtype=float32", "optimizer.amsgrad=false"])
def test_a_model_that_the_checkpoint_does_not_fit_is_refused_by_its_keys(change, resume, tmp_path):
    outcome = resume(change)

    assert_one_line(outcome, "no checkpoint is whole and fits the model", f"{change.partition('=')[0]} was ")
    assert "strict" not in outcome.err
    assert not list((tmp_path / "run" / "checkpoints").glob("*.damaged"))


# Another place


def test_the_same_data_by_other_paths_are_the_same(finished, run, on_molecules, toys, tmp_path, monkeypatch):
    shutil.copytree(finished[0], tmp_path / "run")
    for file in toys.iterdir():
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.chdir(tmp_path)

    outcome = run(*(word.replace(f"{toys}/", "") for word in on_molecules), "run_dir=run", "trainer.resume=auto")

    assert outcome.code == 0, outcome.err
    assert "nothing is left to train" in outcome.out and "resume: data." not in outcome.out


def test_other_test_data_are_refused_by_their_key(finished, run, on_molecules, toys, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    arguments = [word for word in on_molecules if not word.startswith("data.test=")]

    outcome = run(*arguments, f"data.test={toys}/valid.xyz", f"run_dir={tmp_path}/run", "trainer.resume=auto")

    assert_one_line(outcome, "data.test was", "the test data have changed: 6 configurations then, 4 now")
    assert "data.train" not in outcome.err


# Within an epoch


@pytest.fixture
def stopped(run, on_molecules, tmp_path, monkeypatch) -> tuple[str, ...]:
    """The line of a run that was stopped after three of the five batches of its second epoch."""
    arguments, updates = (*on_molecules, f"run_dir={tmp_path}/run"), itertools.count(1)

    def signalled(step: CompiledStep, *arguments):
        if len(arguments) == 3 and next(updates) == 8:  # an update; an evaluation has two
            os.kill(os.getpid(), signal.SIGTERM)
        return step.compile(*arguments)(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(CompiledStep, "__call__", signalled)
        assert run(*arguments).code == 128 + signal.SIGTERM
    return arguments


@pytest.mark.slow
@pytest.mark.parametrize(("change", "num_batches"), [("data.max_configurations=4", 2), ("data.batch_size=5", 2), ("seed=1", 5)])
def test_an_epoch_begins_anew_where_its_batches_are_others(change, num_batches, stopped, run, tmp_path):
    outcome = run(*stopped, change, "trainer.max_epochs=2", "trainer.resume=anyway")

    assert outcome.code == 0, outcome.err
    assert "epoch 2 begins anew, because its batches have changed; 3 were done" in outcome.out
    assert _results(tmp_path / "run")["steps"] == 8 + num_batches


def test_the_data_of_a_run_that_adds_nothing_are_not_those_of_its_model(finished, resume, toys, tmp_path):
    resume(f"data.train={toys}/test.xyz")

    assert _results(tmp_path / "run")["data"]["train_and_valid"] == _results(finished[0])["data"]["train_and_valid"]
    assert _card_of_data(tmp_path / "run") == _card_of_data(finished[0])


@pytest.mark.slow
def test_the_card_tells_all_data_that_the_model_was_trained_on(finished, resume, toys, tmp_path):
    for name in ("test.xyz", "train.xyz", "train.xyz"):
        resume(f"data.train={toys}/{name}", f"trainer.max_epochs={len(_losses(tmp_path / 'run')) + 1}")
    resume(f"data.train={toys}/test.xyz", "trainer.max_epochs=7")

    training, digest = _card_of_data(tmp_path / "run")
    parts = ("`train.xyz`: 10 configurations", "`test.xyz`: 6 configurations", "`train.xyz`: 10 configurations")
    assert training == f"| training data | {'; then '.join(parts)} |"
    assert digest == _card_of_data(finished[0])[1]


def _card_of_data(run_dir: Path) -> list[str]:
    card = (run_dir / "model" / "README.md").read_text(encoding="utf-8").splitlines()
    return [line for line in card if line.startswith(("| training data", "| SHA-256"))]


def test_neighbor_lists_are_no_part_of_what_data_are(molecule, crystal):
    near, far = (build_graphs([molecule, crystal], (1, 6, 8), (0.0, 0.0, 0.0), cutoff) for cutoff in (3.0, 4.0))

    assert near[1].num_edges != far[1].num_edges
    assert digest_of_graphs(near) == digest_of_graphs(far) != digest_of_graphs(near[::-1])


# Patience


@pytest.fixture
def losses(monkeypatch) -> Callable[..., None]:
    """Makes validation losses these, in their order."""

    def give(*values: float) -> None:
        numbers = iter(values)
        monkeypatch.setattr(validation, "loss_from_sums", lambda *_: next(numbers))

    return give


def test_patience_is_the_number_of_epochs_without_anything_better(losses, run, on_molecules, tmp_path):
    losses(2.0, 3.0, 1.0, 4.0, 5.0)

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.max_epochs=9", "trainer.patience=2", "loss.stage_two.start=1")

    assert outcome.code == 0, outcome.err
    assert outcome.out.count("early stop: no better validation loss for 2 epochs") == 1
    assert list(_losses(tmp_path / "run")) == [1, 2, 3, 4, 5] and _results(tmp_path / "run")["best_epoch"] == 3


def test_patience_in_stage_one_leads_to_stage_two(losses, run, on_molecules, tmp_path):
    arguments = (*on_molecules, f"run_dir={tmp_path}/run", "trainer.max_epochs=10", "trainer.patience=1")
    losses(1.0, 2.0, 5.0, 4.0, 6.0)

    outcome = run(*arguments)

    assert outcome.code == 0, outcome.err
    assert "stage two begins early: no better validation loss for 1 epochs; 4 epochs are passed over, at most 4 are left" in outcome.out
    assert outcome.out.count("early stop") == 1 and _results(tmp_path / "run")["best_epoch"] == 4
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == [1, 1, 2, 2, 2]
    rate = CosineSchedule(warmup=0.01)
    # Of the middle of the last of five steps; the third epoch is the seventh of ten.
    assert [line["learning_rate"] / 0.03 for line in lines] == pytest.approx([rate(p) for p in (0.09, 0.19, 0.69, 0.79, 0.89)])

    outcome = run(*arguments, "trainer.resume=auto")

    assert outcome.code == 0 and "nothing is left to train after epoch 5" in outcome.out


@pytest.mark.slow
def test_what_patience_has_passed_over_stays_so_in_a_run_that_goes_on(losses, run, on_molecules, tmp_path, monkeypatch):
    arguments = (*on_molecules, f"run_dir={tmp_path}/run", "trainer.max_epochs=10", "trainer.patience=1")
    losses(1.0, 2.0, 5.0, math.nan)
    assert run(*arguments, "trainer.checkpoint_minutes=0").code == 1

    losses(4.0, 3.0, 2.0, 1.0)
    bars: list[str] = []
    update = TrainingProgress.update

    def looked_at(bar: TrainingProgress, *rest: float) -> None:
        update(bar, *rest)
        bars.append(f"{bar._bar.tasks[0].description} ")

    monkeypatch.setattr(TrainingProgress, "update", looked_at)
    outcome = run(*arguments, "trainer.resume=auto")

    assert outcome.code == 0 and "continuing after epoch 3" in outcome.out
    assert "the training ends after 6 epochs (trainer.max_epochs=10, 4 of them passed over) or" in outcome.out
    assert bars[0].startswith("epoch 4/6 ") and bars[-1].startswith("epoch 6/6 ")
    assert list(_losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6], "six epochs and four that were passed over"


def test_a_training_of_one_step_learns(run, on_molecules, tmp_path):
    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.max_epochs=1", "data.batch_size=10", "optimizer.ema_decay=0")

    assert outcome.code == 0 and _results(tmp_path / "run")["steps"] == 1
    after = load_model(tmp_path / "run")
    before = create_model(after.architecture, after.tensor_product, after.statistics, np.dtype(np.float64), seed=0)
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True))
