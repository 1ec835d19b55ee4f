"""Trainings that are stopped, killed or given numbers that are not finite: what continues ends as if nothing had been."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from command import output_to_full_disk, output_to_nobody
from toy_data import molecules, write

import mace_tp.data.batching
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import read_configurations
from mace_tp.model.programs import CompiledStep
from mace_tp.model.saved_model import load_model
from mace_tp.training import saving, train, validation
from mace_tp.training.checkpoint import Checkpoints


def _metrics(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def _last_state(run_dir: Path) -> dict:
    last = max((int(path.name), path) for path in (run_dir / "checkpoints").iterdir() if path.name.isdigit())[1]
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore((last / "arrays").absolute())


def _assert_same_end(run_dir: Path, expected: Path) -> None:
    """To the last bit: every array of the state, the saved model, the losses of every epoch."""
    jax.tree.map(np.testing.assert_array_equal, _last_state(run_dir), _last_state(expected))
    weights = [safetensors.numpy.load_file(folder / "model" / "weights.safetensors") for folder in (run_dir, expected)]
    jax.tree.map(np.testing.assert_array_equal, *weights)
    assert [line["valid_loss"] for line in _metrics(run_dir)] == [line["valid_loss"] for line in _metrics(expected)]


# Signals


_RARE = [pytest.param(name, marks=pytest.mark.slow) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2")]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", *_RARE])
def test_a_signal_ends_the_step_and_the_run_continues_from_there(name, run, on_molecules, finished, tmp_path, monkeypatch, request):
    number = getattr(signal, name)
    usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    before = signal.signal(number, usual)  # a shell's background jobs ignore SIGINT, and what is ignored stays so
    request.addfinalizer(lambda: signal.signal(number, before))
    calls: list[int] = []

    def signalled(step: CompiledStep, *arguments):
        if len(arguments) == 3:  # an update; an evaluation has two
            calls.append(1)
            if len(calls) == 7:  # the second of five in the second epoch
                os.kill(os.getpid(), number)
        return step.compile(*arguments)(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(CompiledStep, "__call__", signalled)
        outcome = run(*on_molecules, f"run_dir={tmp_path}/run")

    assert outcome.code == 128 + number
    assert f"stopped by {name}" in outcome.out and f"run_dir={tmp_path}/run trainer.resume=auto" in outcome.out
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert " 1 epochs, " in card and "those of epoch 1 |" in card and "Not measured: the training has not come to its end" in card
    assert len(calls) == 7 and [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["7"]
    assert signal.getsignal(number) == usual

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto")

    assert outcome.code == 0 and "continuing after epoch 1 and 2 batches of the next" in outcome.out
    _assert_same_end(tmp_path / "run", finished[0])
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert " 4 epochs, " in card and "| validation | 4 |" in card


def test_the_card_of_a_finished_run_that_goes_on_and_is_stopped_is_not_the_old_one(finished, run, on_molecules, tmp_path, monkeypatch):
    shutil.copytree(finished[0], tmp_path / "run")
    fit = train.fit

    def stopped(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return fit(*arguments, **options)

    monkeypatch.setattr(train, "fit", stopped)
    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto", "trainer.max_epochs=6")

    assert outcome.code == 128 + signal.SIGTERM
    assert "Not measured" in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")


def test_a_signal_within_a_validation_ends_it_and_the_run_continues_with_it(run, on_molecules, finished, tmp_path, monkeypatch):
    calls: list[int] = []

    def signalled(step: CompiledStep, *arguments):
        calls.append(len(arguments))
        if len(arguments) == 2:  # an evaluation; an update has three
            os.kill(os.getpid(), signal.SIGTERM)
        return step.compile(*arguments)(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(CompiledStep, "__call__", signalled)
        outcome = run(*on_molecules, "data.valid_batch_size=1", f"run_dir={tmp_path}/run")

    assert outcome.code == 128 + signal.SIGTERM
    assert calls == [3] * 5 + [2] and not (tmp_path / "run" / "metrics.jsonl").read_text()

    outcome = run(*on_molecules, "data.valid_batch_size=1", f"run_dir={tmp_path}/run", "trainer.resume=auto")

    assert outcome.code == 0 and "continuing after epoch 0 and 5 batches of the next" in outcome.out
    jax.tree.map(np.testing.assert_array_equal, _last_state(tmp_path / "run"), _last_state(finished[0]))


def test_a_long_epoch_is_saved_on_the_way(run, on_molecules, finished, tmp_path, monkeypatch):
    saved = []
    save = Checkpoints.save

    def counted(checkpoints, state, best_params, progress):
        saved.append((progress.epoch, progress.batch))
        if len(saved) == 4:
            raise KeyboardInterrupt
        save(checkpoints, state, best_params, progress)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "_MINUTES_WITHIN_EPOCH", 0)
        patch.setattr(Checkpoints, "save", counted)
        outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.checkpoint_minutes=0")
    assert outcome.code == 130 and saved == [(0, 1), (0, 2), (0, 3), (0, 4)]

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto")

    assert outcome.code == 0 and "continuing after epoch 0 and 3 batches of the next" in outcome.out
    _assert_same_end(tmp_path / "run", finished[0])
    assert [line["train_loss"] for line in _metrics(tmp_path / "run")] == [line["train_loss"] for line in _metrics(finished[0])]


# Standard output


@pytest.mark.parametrize(
    ("output", "why"), [(output_to_nobody, "Broken pipe"), (output_to_full_disk, "No space left on device")], ids=["nobody", "full"]
)
def test_a_training_outlives_its_standard_output(output, why, run, on_molecules, finished, tmp_path):
    with output() as lost:
        outcome = run(*on_molecules, f"run_dir={tmp_path}/run", out=lost)

    told = f"standard output: cannot be written ({why}); the training goes on, and {tmp_path}/run/train.log has its lines"
    assert (outcome.code, outcome.err) == (0, f"mace-tp train: {told}\n")
    _assert_same_end(tmp_path / "run", finished[0])
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert log.count(told) == 1 and log.count("first step after") == 1 and "run directory: " in log


# Kills

# Trains as `mace-tp` does and dies of SIGKILL, after some seconds or during the save after some batches.
_DRIVER = """
    import os, signal, sys, threading
    from mace_tp.cli.main import main
    from mace_tp.training.checkpoint import Checkpoints

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    kind, value = sys.argv.pop(1).split("=")
    if kind == "save":
        save = Checkpoints.save
        def dying(self, state, best_params, progress):
            save(self, state, best_params, progress)
            if progress.num_batches == int(value):
                die()
        Checkpoints.save = dying
    if kind == "seconds":
        from mace_tp.training import train
        fit = train.fit
        def timed(*arguments, **options):
            threading.Timer(float(value), die).start()
            return fit(*arguments, **options)
        train.fit = timed
    main()
"""


def _train_in_a_process(death: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    command = [sys.executable, "-c", textwrap.dedent(_DRIVER), death, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_kill_within_a_save_loses_that_save_at_most(run, on_molecules, finished, tmp_path):
    arguments = (*on_molecules, f"run_dir={tmp_path}/run", "trainer.checkpoint_minutes=0")
    assert _train_in_a_process("save=10", *arguments).returncode == -signal.SIGKILL

    outcome = run(*arguments, "trainer.resume=auto")

    assert outcome.code == 0 and "continuing after epoch" in outcome.out
    _assert_same_end(tmp_path / "run", finished[0])


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_ends_as_one_that_is_not(run, on_molecules, tmp_path):
    more = ("trainer.max_epochs=40", "trainer.checkpoint_minutes=0")
    assert run(*on_molecules, f"run_dir={tmp_path}/whole", *more).code == 0
    seconds = 0.8 * sum(line["epoch_seconds"] + line["valid_seconds"] for line in _metrics(tmp_path / "whole")) / 10
    rng = random.Random(0)
    deaths = []
    for index in range(10):
        death = f"save={15 * (index + 1)}" if index % 3 == 2 else f"seconds={rng.uniform(0.2, 2) * seconds}"
        resume = ["trainer.resume=auto"] if index else []
        deaths.append(_train_in_a_process(death, *on_molecules, f"run_dir={tmp_path}/run", *more, *resume).returncode)

    assert run(*on_molecules, f"run_dir={tmp_path}/run", *more, "trainer.resume=auto").code == 0

    assert deaths.count(-signal.SIGKILL) >= 8, "the others came after the end"
    _assert_same_end(tmp_path / "run", tmp_path / "whole")


# Damage


@pytest.fixture(scope="module")
def stopped(run, on_molecules, tmp_path_factory) -> Path:
    """A run of two epochs of four, with a checkpoint after each."""
    run_dir = tmp_path_factory.mktemp("stopped") / "run"
    fit = train.fit

    def two_epochs(*arguments, **options):
        for state, epoch in fit(*arguments, **options):
            yield state, epoch
            if epoch.index == 1:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "fit", two_epochs)
        assert run(*on_molecules, f"run_dir={run_dir}", "trainer.checkpoint_minutes=0").code == 130
    return run_dir


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(stopped, run, on_molecules, finished, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    largest = max((path for path in (tmp_path / "run" / "checkpoints" / "10").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-20])

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto")

    assert outcome.code == 0
    assert "checkpoint 10 is damaged" in outcome.out and "continuing after epoch 1" in outcome.out
    jax.tree.map(np.testing.assert_array_equal, _last_state(tmp_path / "run"), _last_state(finished[0]))


@pytest.mark.parametrize(
    ("before", "after"), [(b'"cutoff":3.0', b'"cutoff":7.0'), (b'"config"', b'"konfig"'), (b'_sha256":"', b'_sha256":"0')]
)
def test_damage_to_what_a_checkpoint_says_of_itself_is_damage(before, after, stopped, run, on_molecules, finished, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    (about,) = (path for path in (tmp_path / "run" / "checkpoints" / "10" / "about").rglob("*") if path.name == "metadata")
    content = about.read_bytes().replace(b": ", b":")
    assert before in content
    about.write_bytes(content.replace(before, after, 1))

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto")

    assert outcome.code == 0, outcome.err
    assert "checkpoint 10 is damaged" in outcome.out and "continuing after epoch 1" in outcome.out
    jax.tree.map(np.testing.assert_array_equal, _last_state(tmp_path / "run"), _last_state(finished[0]))


def test_a_damaged_line_of_metrics_is_removed_with_those_behind_it(stopped, run, on_molecules, finished, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / "metrics.jsonl").write_bytes(lines[0] + b"\xff\x00" + lines[1])

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto")

    assert outcome.code == 0, outcome.err
    assert "metrics.jsonl: line 2 is damaged" in outcome.out
    assert [line["epoch"] for line in _metrics(tmp_path / "run")] == [1, 3, 4]


def test_what_cannot_be_written_is_one_line(run, on_molecules, tmp_path):
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    outcome = run(*on_molecules, f"run_dir={tmp_path}/run")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and "metrics.jsonl: cannot be written (Is a directory)" in outcome.err

    (tmp_path / "other" / "train.log").mkdir(parents=True)
    outcome = run(*on_molecules, f"run_dir={tmp_path}/other")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and "cannot be written (Is a directory)" in outcome.err


def test_a_save_that_is_lost_is_an_error(run, on_molecules, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run")

    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "a checkpoint could not be written ([Errno 28] No space left on device); complete: none" in outcome.err


def test_checkpoints_of_chosen_epochs_are_kept(run, on_molecules, tmp_path):
    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.max_epochs=5", "trainer.keep_every=2", "trainer.checkpoint_minutes=0")

    assert outcome.code == 0
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"10", "20", "25"}


# Changes


def test_other_data_are_refused(stopped, run, on_molecules, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    config = (tmp_path / "run" / "config.yaml").read_text()
    arguments = [argument for argument in on_molecules if not argument.startswith("data.valid=")]
    other = f"data.valid={write(tmp_path / 'valid.xyz', molecules(3, seed=1))}"

    outcome = run(*arguments, other, f"run_dir={tmp_path}/run", "trainer.resume=auto", "model.cutoff=2.9")

    assert outcome.code == 2 and outcome.err.count("\n") == 1
    for change in ("data.valid was", "model.cutoff was 3.0, is 2.9", "the validation data have changed: 4 configurations then, 3 now"):
        assert change in outcome.err
    assert (tmp_path / "run" / "config.yaml").read_text() == config


@pytest.mark.parametrize("change", ["model.num_channels=3", "tensor_product=matrix"])
def test_another_model_is_refused_by_its_keys(change, stopped, run, on_molecules, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto", change)

    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert f"{change.partition('=')[0]}" in outcome.err and " was " in outcome.err
    assert not list((tmp_path / "run" / "checkpoints").glob("*.damaged"))


def test_what_a_run_began_with_stays_where_the_line_that_continues_it_leaves_it_out(finished, run, on_molecules, toys, tmp_path):
    """Its weights count on the scale, shift and neighbors of the model that it began with, which are not those of its data."""
    arguments = [argument for argument in on_molecules if not argument.startswith("data.train=")]
    arguments += [f"data.train={toys}/test.xyz", f"run_dir={tmp_path}/run"]
    started = (f"model.init_from={finished[0]}", "data.theory=PBE", "trainer.max_epochs=1")
    assert run(*arguments, *started).code == 0

    outcome = run(*arguments, "trainer.resume=auto", "trainer.max_epochs=2")

    assert outcome.code == 0, outcome.err
    scales = [load_model(folder).statistics.scale for folder in (tmp_path / "run", finished[0])]
    assert scales[0] == scales[1]
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| level of theory of the labels | PBE |" in card and f"| weights of the beginning | `{finished[0]}` |" in card


def test_changes_that_are_wanted_are_told(stopped, run, on_molecules, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=anyway", "optimizer.learning_rate=0.001")

    assert outcome.code == 0
    assert "optimizer.learning_rate was 0.03, is 0.001" in outcome.out and "continuing after epoch 2" in outcome.out
    assert _metrics(tmp_path / "run")[-1]["epoch"] == 4


@pytest.mark.slow
def test_another_schedule_is_taken_when_it_is_wanted(stopped, run, on_molecules, tmp_path):
    for change, rate in {"optimizer.final_factor=0.5": 0.5, "optimizer.schedule=constant": 1.0}.items():
        shutil.copytree(stopped, tmp_path / change)

        outcome = run(*on_molecules, f"run_dir={tmp_path}/{change}", "trainer.resume=anyway", change)

        assert outcome.code == 0, outcome.err
        assert _metrics(tmp_path / change)[-1]["learning_rate"] >= rate * 0.03


def test_another_end_is_taken_and_told(finished, run, on_molecules, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto", "trainer.max_epochs=5")
    assert outcome.code == 0 and "trainer.max_epochs was 4, is 5" in outcome.out
    assert [line["epoch"] for line in _metrics(tmp_path / "run")] == [1, 2, 3, 4, 5]

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto", "trainer.max_epochs=5")
    assert outcome.code == 0 and "nothing is left to train after epoch 5" in outcome.out
    assert outcome.out.count("the training ends after epoch 5: trainer.max_epochs=5 is reached") == 1


@pytest.mark.slow
def test_a_run_that_ended_by_the_clock_goes_on_with_more_time(run, on_molecules, tmp_path):
    arguments = (*on_molecules, f"run_dir={tmp_path}/run", "trainer.max_epochs=20")
    assert run(*arguments, "trainer.max_minutes=1e-9").code == 0
    assert len(_metrics(tmp_path / "run")) == 1

    outcome = run(*arguments, "trainer.max_minutes=10", "trainer.resume=auto")

    assert outcome.code == 0 and "trainer.max_minutes was 1e-09, is 10.0" in outcome.out
    assert len(_metrics(tmp_path / "run")) == 20


# Numbers that are not finite


@pytest.fixture
def poison(monkeypatch) -> Callable[[str], None]:
    """Makes the forces of every configuration whose source ends so not a number, in the batches alone."""

    def spoil(ending: str) -> None:
        pad_batch = mace_tp.data.batching.pad_batch

        def spoiled(graphs, *rest):
            batch = pad_batch(graphs, *rest)
            found = any(graph.source.endswith(ending) and "train.xyz" in graph.source for graph in graphs)
            return batch.replace(forces=np.full_like(batch.forces, np.nan)) if found else batch

        monkeypatch.setattr(mace_tp.data.batching, "pad_batch", spoiled)

    return spoil


def test_an_update_that_is_not_finite_is_skipped_and_counted(poison, run, on_molecules, tmp_path):
    poison("frame 3")

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run")

    assert outcome.code == 0, outcome.err
    assert [line["num_skipped"] for line in _metrics(tmp_path / "run")] == [1, 1, 1, 1]
    assert "epoch 1: 1 updates skipped" in outcome.out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["num_skipped"], results["steps"]) == (4, 16)
    assert np.isfinite(results["valid"]["force_rmse"])


def test_updates_that_are_never_finite_stop_the_run_and_show_the_configurations(poison, run, on_molecules, tmp_path):
    poison("")

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run")

    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "10 updates in a row were not finite" in outcome.err and "of epoch 1, is kept" in outcome.err
    assert f"their configurations are in {tmp_path}/run/not_finite.extxyz" in outcome.err
    shown = read_configurations(tmp_path / "run" / "not_finite.extxyz", LabelKeys())
    assert len(shown) == 10 and all(frame.forces is not None for frame in shown)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["10"]
    assert load_model(tmp_path / "run").num_parameters


def test_a_training_that_diverges_keeps_its_best_model(run, on_molecules, tmp_path, monkeypatch):
    losses = iter([1.0, np.nan])
    monkeypatch.setattr(validation, "loss_from_sums", lambda *_: next(losses))

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run")

    assert outcome.code == 1 and "the validation loss of epoch 2 is nan" in outcome.err and "of epoch 1, is kept" in outcome.err
    assert load_model(tmp_path / "run").num_parameters
