"""The commands of the pages in docs/, run one after another as a reader would, on toy data and with a tiny model."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import TINY

DOCS = Path(__file__).parents[2] / "docs"
# What makes a command short; the last value of a flag counts.
SHORT = {
    "train": (*TINY, "data.valid_fraction=0.2", "trainer.max_epochs=1"),
    "md": ("--steps", "5", "--timestep", "0.1"),
    "benchmark": ("--repeats", "1", "--batch", "4", "--settings", "MIMO"),
    "data": (),
    "expressivity": (),
    "inspect": (),
    "evaluate": (),
    "export": (),
}


def _blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def _commands(page: str) -> list[list[str]]:
    lines = [line for block in _blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("mace-tp ")]


@pytest.fixture(scope="module")
def folder(toys, tmp_path_factory):
    """Files of the names that the pages use."""
    folder = tmp_path_factory.mktemp("pages")
    for name, toy in (("train", "train"), ("test", "test"), ("structure", "test"), ("atoms", "isolated")):
        shutil.copy(toys / f"{toy}.xyz", folder / f"{name}.extxyz")
    return folder


@pytest.mark.slow
def test_every_command_of_the_pages_runs(run, folder, monkeypatch):
    """In the order of a reader: what one page makes the next one uses. mace-torch is another test's (`test_mace_torch_files.py`)."""
    monkeypatch.chdir(folder)
    commands = [command for page in ("training.md", "using.md", "conventions.md") for command in _commands(page) if command[0] != "convert"]
    assert len(commands) > 8
    for command, *arguments in commands:
        outcome = run(command, *arguments, *SHORT[command])
        assert outcome.code == 0, f"{command} {arguments}: {outcome.err}"
    [program] = _blocks("using.md", "python")
    exec(compile(program, "using.md", "exec"), {})
    assert (folder / "runs" / "mine" / "model" / "README.md").exists() and (folder / "md_nve" / "energies.png").exists()


def test_every_page_is_linked_from_the_readme():
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert f"docs/{page.name}" in readme
