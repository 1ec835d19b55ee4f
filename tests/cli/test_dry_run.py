"""Checks before the data are read, by `--cfg job`, and by `--dry-run`, which stops before the first step and writes nothing."""

import os
import shutil

import pytest
from command import assert_one_line

import mace_tp.cli.train as train_module
from mace_tp.model.programs import CompiledStep

WRONG_PRODUCTS = {
    "tensor_product.interaction=sphericalgrid": "did you mean spherical_grid?",
    "tensor_product.product_basis=gaunt:rnk=2": "did you mean rank?",
    "tensor_product=cg/spherical_grid:rank=0": "rank of spherical_grid must be a whole number of at least 1, got 0",
    "tensor_product=gautn": "did you mean gaunt?",
}


@pytest.mark.parametrize("override", WRONG_PRODUCTS)
def test_a_wrong_product_is_found_before_the_data_are_read(override, run, tmp_path):
    assert_one_line(run("train", override, "data.train=nothere.xyz", f"run_dir={tmp_path}/run"), WRONG_PRODUCTS[override])


@pytest.mark.parametrize("override", [*WRONG_PRODUCTS, "data.batch_size=0", "+wings=1"])
@pytest.mark.parametrize("show", [("--cfg", "job"), ("-c", "all")])
def test_a_configuration_that_cannot_be_used_is_not_shown(override, show, run):
    outcome = run("train", override, *show)

    assert_one_line(outcome, WRONG_PRODUCTS.get(override, override.lstrip("+").partition("=")[0]))
    assert outcome.out == ""


@pytest.fixture
def no_step(monkeypatch):
    """Whatever runs a step has gone too far."""

    def run(*_):
        raise AssertionError("a step was run")

    monkeypatch.setattr(CompiledStep, "__call__", run)


def test_a_dry_run_builds_everything_and_writes_nothing(run, on_molecules, no_step, tmp_path):
    outcome = run(*on_molecules, "--dry-run", f"run_dir={tmp_path}/new/run", "tensor_product=cg/gaunt:rank=2")

    assert outcome.code == 0, outcome.err
    for said in ("E0", "10 configurations", "tensor product: cg in the interaction, gaunt:rank=2 in the product", "step: compiled in"):
        assert said in outcome.out, said
    assert f"dry run: nothing is trained or written; a training would take 4 epochs of 5 steps each, into {tmp_path}/new/run" in (
        " ".join(outcome.out.split())
    )
    assert not list(tmp_path.iterdir())


def test_a_dry_run_finds_what_a_training_would(run, on_molecules, finished, toys, tmp_path):
    assert_one_line(run(*on_molecules, "--dry-run", f"data.test={toys}/no.xyz", f"run_dir={tmp_path}/run"), "no.xyz: no such file")
    assert_one_line(run(*on_molecules, "--dry-run", f"run_dir={finished[0]}"), "already holds a run")
    assert_one_line(
        run(*on_molecules, "--dry-run", f"run_dir={finished[0]}", "trainer.resume=auto", "data.batch_size=3"), "data.batch_size was 2, is 3"
    )
    (tmp_path / "file").touch()
    assert_one_line(run(*on_molecules, "--dry-run", f"run_dir={tmp_path}/file/run"), f"run_dir {tmp_path}/file/run: cannot be made")
    assert run(*on_molecules, "--dry-run", f"run_dir={finished[0]}", "trainer.resume=auto").code == 0
    if os.path.isdir("/proc/self"):  # where even root can make no folder
        assert_one_line(run(*on_molecules, "--dry-run", "run_dir=/proc/run"), "run_dir /proc/run: cannot be made or written")


def test_a_dry_run_reads_the_checkpoint_and_leaves_it_as_it_is(run, on_molecules, finished, tmp_path):
    checkpoints = shutil.copytree(finished[0], tmp_path / "run") / "checkpoints"
    (checkpoints / "25.orbax-checkpoint-tmp").mkdir()  # such as another process is writing
    arguments = (*on_molecules, "--dry-run", f"run_dir={tmp_path}/run", "trainer.resume=anyway")

    outcome = run(*arguments)
    assert outcome.code == 0 and "resume: there are 4 epochs in the last checkpoint" in outcome.out
    assert_one_line(run(*arguments, "model.num_channels=3"), "fits the model", "model.num_channels was 2, is 3")

    damaged = max((path for path in (checkpoints / "20").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    assert_one_line(run(*arguments), "no checkpoint is whole")
    assert {path.name for path in checkpoints.iterdir()} == {"20", "25.orbax-checkpoint-tmp"}


def test_a_dry_run_of_a_sweep_looks_at_every_job(run, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(train_module, "dry_run", lambda config, run_dir: seen.append((config.seed, run_dir)))

    outcome = run("train", "--dry-run", "-m", "seed=3,4", f"run_dir={tmp_path}/sweep")

    assert outcome.code == 0, outcome.err
    assert seen == [(3, tmp_path / "sweep" / "0"), (4, tmp_path / "sweep" / "1")]
    assert not list(tmp_path.iterdir())
