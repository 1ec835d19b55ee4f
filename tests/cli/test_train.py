"""`mace-tp train`: what a run directory holds, resuming, compilations, sweeps, and the kinds of training."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
import yaml
from command import Outcome
from omegaconf import OmegaConf

from mace_tp.cli.main import command_started
from mace_tp.config import Config
from mace_tp.data.batching import BatchLoader, choose_buckets
from mace_tp.runtime.devices import set_dtype
from mace_tp.training import train
from mace_tp.training.datasets import load_datasets
from mace_tp.training.loggers import JsonlLogger

ERRORS = {"energy_mae", "energy_rmse", "energy_rmse_per_config", "force_mae", "force_rmse"}
METRICS = ERRORS | {
    "epoch", "step", "learning_rate", "train_loss", "valid_loss", "epoch_seconds", "step_seconds", "compile_seconds", "valid_seconds",
    "peak_memory_mb",
}  # fmt: skip
RESULTS = {
    "tensor_product", "num_parameters", "flops_per_step", "epoch_seconds", "step_seconds", "total_seconds", "valid", "test",
}  # fmt: skip
EPOCHS = 4


def metrics(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def results(run_dir: Path) -> dict:
    return json.loads((run_dir / "results.json").read_text())


def weights(run_dir: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(run_dir / "model" / "weights.safetensors")


def last_state(run_dir: Path) -> dict:
    """Return every array of the last checkpoint: parameters, their average and its best value, moments, step."""
    last = max((run_dir / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore((last / "arrays").absolute())


def read_config(run_dir: Path) -> Config:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(run_dir / "config.yaml")))


# The run directory


def test_the_model_has_a_card(finished):
    run_dir, _ = finished
    card, results = (run_dir / "model" / "README.md").read_text(encoding="utf-8"), json.loads((run_dir / "results.json").read_text())
    assert results["data"]["train_and_valid"]["sha256"] in card and "| C | " in card and "level of theory of the labels | not given" in card
    assert f"| validation | 4 | {results['valid']['force_rmse']:.2f} |" in card and "`test.xyz` | 6 |" in card
    assert f"{results['num_parameters']:,} in float64" in card and f"jax {results['environment']['jax']}" in card
    assert "| training data | `train.xyz`: 10 configurations |" in card and "| validation data | `valid.xyz`: 4 configurations |" in card
    assert "| E0s | energies of isolated atoms, of `isolated.xyz` |" in card and "| weights of the beginning | random, seed 0 |" in card


def test_the_card_tells_every_file_the_start_and_any_theory(finished, run, on_molecules, toys, tmp_path):
    """Files of one name in two folders, words that end a cell of a table, and a share of the training file that validates."""
    (tmp_path / "far").mkdir()
    shutil.copy(toys / "valid.xyz", tmp_path / "far" / "test.xyz")
    arguments = [argument for argument in on_molecules if not argument.startswith(("data.valid=", "data.test=", "data.isolated"))]

    outcome = run(
        *arguments, f"data.test=[{toys}/test.xyz,{tmp_path}/far/test.xyz]", "data.atomic_energies=least_squares", "trainer.max_epochs=1",
        'data.theory="wB97X|6-31G(d), 500 eV"', f"model.init_from={finished[0]}", f"run_dir={tmp_path}/run",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| `{toys}/test.xyz` | 6 |" in card and f"| `{tmp_path}/far/test.xyz` | 4 |" in card
    assert "| level of theory of the labels | wB97X\\|6-31G(d), 500 eV |" in card
    assert "| validation data | 1 configurations of the same files, drawn at random (seed 0) |" in card
    assert "| E0s | fitted to the training energies by least squares |" in card
    assert f"| weights of the beginning | `{finished[0]}` |" in card


def test_run_directory_holds_what_the_design_says(finished):
    run_dir, _ = finished

    names = {path.name for path in run_dir.iterdir()}

    assert names == {"config.yaml", "metrics.jsonl", "results.json", "checkpoints", "model", "plots", "train.log"}
    assert {path.name for path in (run_dir / "model").iterdir()} == {"weights.safetensors", "model.json", "README.md"}


def test_config_is_resolved_and_complete(finished, toys):
    run_dir, _ = finished
    text = (run_dir / "config.yaml").read_text()

    config = read_config(run_dir)

    assert "${" not in text and "???" not in text
    assert yaml.safe_load(text).keys() == OmegaConf.structured(Config).keys()
    assert (config.data.train, config.model.num_channels, config.dtype) == (f"{toys}/train.xyz", 2, "float64")


def test_metrics_have_a_line_per_epoch_with_every_key(finished):
    lines = metrics(finished[0])

    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    assert [line["step"] for line in lines] == [5, 10, 15, 20], "10 configurations in batches of 2"
    for line in lines:
        assert line.keys() | {"step_seconds"} >= METRICS, "an epoch that only compiles has no time of a step"
        assert all(np.isfinite(value) for value in line.values())
    assert lines[-1].keys() >= METRICS


def test_results_have_every_key(finished, toys):
    found = results(finished[0])

    assert found.keys() >= RESULTS
    assert found["tensor_product"].keys() == {"interaction", "product_basis"}
    assert found["valid"].keys() == ERRORS | {"num_configs"} and found["valid"]["num_configs"] == 4
    assert found["test"].keys() == {f"{toys}/test.xyz"}
    assert found["test"][f"{toys}/test.xyz"].keys() == ERRORS | {"num_configs"}
    assert found["num_parameters"] == sum(weight.size for weight in weights(finished[0]).values())
    assert found["flops_per_step"] > 0 and found["step_seconds"] > 0 and found["total_seconds"] > found["compile_seconds"]


def test_times_in_the_results_are_those_of_the_epochs(finished):
    lines, found = metrics(finished[0]), results(finished[0])
    steady = [line for line in lines[1:] if "step_seconds" in line]

    assert found["epoch_seconds"] == pytest.approx(np.median([line["epoch_seconds"] for line in steady]))
    assert found["step_seconds"] == pytest.approx(np.median([line["step_seconds"] for line in steady]))


def test_validation_errors_are_those_of_the_best_epoch(finished):
    best = metrics(finished[0])[results(finished[0])["best_epoch"] - 1]

    for name in ERRORS:
        assert results(finished[0])["valid"][name] == pytest.approx(best[name], rel=1e-9)


def test_plots_are_pictures(finished):
    plots = finished[0] / "plots"

    assert {path.name for path in plots.iterdir()} == {
        "learning_curves.png", "parity_energy_valid.png", "parity_forces_valid.png", "parity_energy_test.png", "parity_forces_test.png",
    }  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.iterdir())


def test_log_and_terminal_tell_the_same(finished, toys):
    run_dir, outcome = finished
    log = (run_dir / "train.log").read_text()

    assert outcome.err == ""
    for said in (
        "jax 0.",
        "dtype float64",
        "tensor product: cg",
        "compiling the training step for up to ",
        "compiling the evaluation for up to ",
        "; later runs find it in the cache",
        f"the training ends after {EPOCHS} epochs (trainer.max_epochs)",
        "isolated atoms",
        "elements H C O",
        "F RMSE",
        f"{toys}/test.xyz",
        str(run_dir),
    ):
        assert said in outcome.out and said in log, said
    assert len(log.splitlines()) == len(outcome.out.splitlines())


def test_a_run_is_never_overwritten(finished, run, on_molecules):
    run_dir, _ = finished
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}

    outcome = run(*on_molecules, f"run_dir={run_dir}")

    assert outcome.code == 2 and "trainer.resume=auto" in outcome.err
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_a_mistake_leaves_the_run_directory_free(run, on_molecules, tmp_path):
    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "data.train=missing.xyz")

    assert outcome.code == 2
    assert not (tmp_path / "run" / "config.yaml").exists(), "by which a run is known"


# Compilations


def test_one_compilation_of_the_step_per_bucket(finished):
    config = read_config(finished[0])
    graphs = load_datasets(config).train
    buckets = choose_buckets(graphs, config.data.batch_size, seed=config.seed)
    loader = BatchLoader(graphs, config.data.batch_size, buckets, set_dtype(config.dtype), seed=config.seed)

    shapes = {(batch.num_nodes, batch.num_edges) for epoch in range(EPOCHS) for batch in loader.epoch(epoch)}

    assert results(finished[0])["num_compilations"] == len(shapes) == len(buckets)
    assert len(shapes) > 1, "ragged data"


@pytest.fixture
def slow_compiler(monkeypatch) -> Callable[[], int]:
    """Makes every compilation of a step take half a second longer; returns how many there were."""
    compiled: list[object] = []
    lower = jax.stages.Traced.lower

    def lower_slowly(traced, *arguments, **options):
        time.sleep(0.5)
        compiled.append(traced)
        return lower(traced, *arguments, **options)

    monkeypatch.setattr(jax.stages.Traced, "lower", lower_slowly)
    return lambda: len(compiled)


def test_seconds_of_compilation_are_those_of_all_programs_and_all_sessions(slow_compiler, run, on_molecules, tmp_path):
    """The training step for two shapes and the evaluation, and the same again in a resumed run."""
    arguments = (*on_molecules, f"run_dir={tmp_path}/run")

    outcome = run(*arguments, "trainer.max_epochs=1")

    assert outcome.code == 0, outcome.err
    first, planted = results(tmp_path / "run"), 0.5 * slow_compiler()
    assert slow_compiler() >= 4
    assert planted < first["compile_seconds"] < first["total_seconds"]
    assert f"{first['compile_seconds']:.1f} s of compilation" in outcome.out
    [line] = metrics(tmp_path / "run")
    assert 0.5 < line["compile_seconds"] < first["compile_seconds"] - 0.5, "the first one was before the epoch"
    assert line["epoch_seconds"] < 0.5

    outcome = run(*arguments, "trainer.max_epochs=2", "trainer.resume=auto")

    assert outcome.code == 0, outcome.err
    both, planted_later = results(tmp_path / "run"), 0.5 * slow_compiler() - planted
    assert planted_later >= 1
    assert first["compile_seconds"] + planted_later < both["compile_seconds"] < both["total_seconds"]


# Resuming


@pytest.fixture(scope="module")
def interrupted(run, on_molecules, tmp_path_factory) -> Path:
    """A run that is stopped in epoch 3 of 4, with a checkpoint after each epoch."""
    run_dir = tmp_path_factory.mktemp("interrupted") / "run"
    log = JsonlLogger.log

    def log_two_epochs(logger, step, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt
        log(logger, step, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonlLogger, "log", log_two_epochs)
        outcome = run(*on_molecules, f"run_dir={run_dir}", "trainer.checkpoint_minutes=0")
    assert outcome.code == 130 and f"run_dir={run_dir} trainer.resume=auto" in outcome.out
    return run_dir


@pytest.fixture(scope="module")
def resumed(interrupted, run, on_molecules) -> tuple[Path, Outcome, list[bool]]:
    """The same run, continued; and whether each epoch began with arrays that are bound to a device."""
    bound: list[bool] = []
    fit = train.fit

    def watched(state, *arguments, **options):
        bound.append(any(leaf.committed for leaf in jax.tree.leaves(state)))
        for later, epoch in fit(state, *arguments, **options):
            yield later, epoch
            bound.append(any(leaf.committed for leaf in jax.tree.leaves(later)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "fit", watched)
        outcome = run(*on_molecules, f"run_dir={interrupted}", "trainer.resume=auto")
    return interrupted, outcome, bound


def test_a_changed_configuration_is_refused(interrupted, run, on_molecules):
    before = metrics(interrupted)

    outcome = run(*on_molecules, f"run_dir={interrupted}", "trainer.resume=auto", "optimizer.learning_rate=0.5")

    assert outcome.code == 2
    assert f"optimizer.learning_rate was {Config().optimizer.learning_rate}, is 0.5" in outcome.err
    assert metrics(interrupted) == before


def test_a_resumed_run_ends_as_an_uninterrupted_one(resumed, finished):
    run_dir, outcome, _ = resumed

    assert outcome.code == 0 and "continuing after epoch 2" in outcome.out
    assert [line["epoch"] for line in metrics(run_dir)] == [1, 2, 3, 4]
    jax.tree.map(np.testing.assert_array_equal, last_state(run_dir), last_state(finished[0]))
    jax.tree.map(np.testing.assert_array_equal, weights(run_dir), weights(finished[0]))
    for name in ("train_loss", "valid_loss", "learning_rate"):
        assert [line[name] for line in metrics(run_dir)] == [line[name] for line in metrics(finished[0])]
    assert results(run_dir)["valid"] == results(finished[0])["valid"]


def test_a_resumed_run_finds_its_programs_in_the_compilation_cache(resumed):
    _, _, bound = resumed

    assert bound == [False, False], "bound to a device, the same step is another program"


def test_resuming_a_finished_run_changes_nothing(finished, run, on_molecules, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "trainer.resume=auto")

    assert outcome.code == 0
    assert metrics(tmp_path / "run") == metrics(finished[0])
    assert results(tmp_path / "run") == results(finished[0])
    jax.tree.map(np.testing.assert_array_equal, weights(tmp_path / "run"), weights(finished[0]))


# Time


def test_the_clock_of_a_training_starts_with_the_command_and_once_only(monkeypatch):
    monkeypatch.setenv("MACE_TP_STARTED", str(time.monotonic() - 1000))

    first, second = command_started(), command_started()

    assert second - first > 999, "the second job of a sweep has its own minutes"


def seconds_of_epochs(run_dir: Path) -> float:
    return sum(line["epoch_seconds"] + line["valid_seconds"] for line in metrics(run_dir))


@pytest.mark.slow
def test_minutes_are_those_of_updates_and_validation_also_in_a_run_that_goes_on(slow_compiler, run, on_molecules, tmp_path):
    """Each session compiles for longer than the whole training may last."""
    arguments = (*on_molecules, f"run_dir={tmp_path}/run", "trainer.max_epochs=100000")

    outcome = run(*arguments, "trainer.max_minutes=0.01")

    assert outcome.code == 0, outcome.err
    found, first = results(tmp_path / "run"), seconds_of_epochs(tmp_path / "run")
    assert found["compile_seconds"] > 1 and 0.3 < first < 0.6 + metrics(tmp_path / "run")[-1]["valid_seconds"] + 0.4
    assert "after 100000 epochs (trainer.max_epochs) or after 0.01 minutes without compilation (trainer.max_minutes)" in outcome.out
    end = f"the training ends after epoch {found['epochs']} of 100000: the 0.01 minutes of trainer.max_minutes are over"
    assert outcome.out.count(end) == 1

    outcome = run(*arguments, "trainer.max_minutes=0.02", "trainer.resume=auto")

    assert outcome.code == 0, outcome.err
    assert f"; done are {found['epochs']} epochs and 0.0 minutes" in outcome.out
    assert first + 0.3 < seconds_of_epochs(tmp_path / "run") < 1.2 + metrics(tmp_path / "run")[-1]["valid_seconds"] + 0.4


def test_a_sweep_makes_a_run_directory_for_each_job(run, on_molecules, tmp_path):
    outcome = run(*on_molecules, "-m", "seed=0,1", "trainer.max_minutes=1e-9", f"run_dir={tmp_path}/sweep")

    assert outcome.code == 0, outcome.err
    for job in ("0", "1"):
        assert yaml.safe_load((tmp_path / "sweep" / job / "config.yaml").read_text())["seed"] == int(job)
        assert results(tmp_path / "sweep" / job)["steps"] == 1, "the least that a training does, however short its time"
    first, second = (weights(tmp_path / "sweep" / job) for job in ("0", "1"))
    assert any(np.any(first[name] != second[name]) for name in first)


# Kinds of training


def test_stress_is_trained_and_told(run, toys, tmp_path, on_molecules):
    outcome = run(
        *on_molecules, f"data.train={toys}/crystals.xyz", "data.valid=null", "data.valid_fraction=0.25", f"data.test=[{toys}/crystals.xyz]",
        "data.atomic_energies=least_squares", "model.cutoff=4", "trainer.max_epochs=2", f"run_dir={tmp_path}/run",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    assert all("stress_mae" in line for line in metrics(tmp_path / "run"))
    assert results(tmp_path / "run")["valid"]["stress_mae"] > 0
    assert results(tmp_path / "run")["test"][f"{toys}/crystals.xyz"]["stress_rmse"] > 0
    assert (tmp_path / "run" / "plots" / "parity_stress_crystals.png").exists()
    assert "S MAE" in outcome.out


def test_wandb_offline_writes_a_folder(run, on_molecules, tmp_path):
    pytest.importorskip("wandb")

    outcome = run(*on_molecules, "trainer.max_epochs=1", "logger=wandb_offline", f"run_dir={tmp_path}/run")

    assert outcome.code == 0, outcome.err
    end = time.monotonic() + 60  # wandb goes on in a process of its own
    while not list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")) and time.monotonic() < end:
        time.sleep(0.2)
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


def test_a_new_process_trains_in_float32_without_wandb(on_molecules, tmp_path):
    (tmp_path / "traps").mkdir()
    (tmp_path / "traps" / "wandb.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    path = os.pathsep.join(filter(None, [str(tmp_path / "traps"), os.environ.get("PYTHONPATH")]))
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    arguments = ["debug=tiny", *on_molecules[1:], "trainer.max_epochs=1", "dtype=float32", f"run_dir={tmp_path}/run"]

    done = subprocess.run(
        [sys.executable, "-m", "mace_tp", "train", *arguments],
        env=environment | {"PYTHONPATH": path, "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or ""},
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nothing that a user would wonder about"
    assert "dtype float32" in done.stdout
    assert {weight.dtype for weight in weights(tmp_path / "run").values()} == {np.dtype(np.float32)}
    assert not (tmp_path / "imported").exists()
