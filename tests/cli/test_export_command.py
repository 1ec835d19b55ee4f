"""From the command line: an export that is checked, and what is refused."""

from pathlib import Path

import jax
import pytest
from command import assert_one_line

import mace_tp
from mace_tp import load_exported
from mace_tp.model.export.load import ExportedModel


def test_an_export_is_checked_and_never_overwritten_unasked(run, finished, tmp_path):
    out = tmp_path / "model.export"
    outcome = run("export", finished[0], out)
    assert outcome.code == 0, outcome.err
    assert "checked against the model: energies differ by" in outcome.out
    lines = [line.partition(" for ")[0].partition(";")[0] for line in outcome.out.splitlines() if line.startswith("compiling ")]
    assert lines == ["compiling the model", *["compiling energy and forces", "compiling the function of the file, to check it"] * 2]
    assert "compiling the model for cpu and cuda\n" in outcome.out, "no cache keeps it"
    assert "for cpu and cuda; read it with mace_tp.load_exported\n" in outcome.out
    assert load_exported(out).dtype == "float64" and list(tmp_path.iterdir()) == [out]
    assert str(Path(mace_tp.__file__).parent).encode() not in out.read_bytes(), "the folders of a machine are nobody's business"

    assert_one_line(run("export", finished[0], out), "is there already; --force replaces it")
    assert run("export", finished[0], out, "--force", "--platforms", "cpu").code == 0
    assert load_exported(out).function.platforms == ("cpu",)


@pytest.mark.parametrize(
    "spoil, name",
    [
        (lambda result: result._replace(energy=result.energy + 0.01), "energies"),
        (lambda result: result._replace(forces=result.forces + 0.01), "forces"),
        (lambda result: result if result.stress is None else result._replace(stress=result.stress * 1.01), "stress"),
    ],
)
def test_a_file_with_other_numbers_than_the_model_is_not_written(run, finished, tmp_path, monkeypatch, spoil, name):
    right = ExportedModel.__call__
    monkeypatch.setattr(ExportedModel, "__call__", lambda self, *arguments: spoil(right(self, *arguments)))
    outcome = run("export", finished[0], tmp_path / "out")
    assert outcome.code == 1 and f"{name} of the file differ from those of the model" in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_machine_with_a_gpu_checks_the_file_too(run, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "checked against the model" in run("export", finished[0], tmp_path / "out").out


def test_places_that_no_file_can_be_written_to_are_said(run, finished, tmp_path):
    assert_one_line(run("export", finished[0], tmp_path, "--force"), "is a folder, must be a file")
    assert_one_line(run("export", finished[0], tmp_path / "none" / "out"), "there is no folder")


def test_a_model_that_is_not_there_is_said(run, tmp_path):
    assert_one_line(run("export", tmp_path, tmp_path / "out"), "no model here")
