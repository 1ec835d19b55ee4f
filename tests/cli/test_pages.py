"""The commands of the pages in docs/, run one after another as a reader would, on toy data and with a tiny model."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import TINY

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("training.md", "using.md", "conventions.md", "add_a_product.md", "speed.md")
# Arguments that make a command short; the last value of a flag counts.
SHORT = {
    "train": (*TINY, "data.valid_fraction=0.2", "trainer.max_epochs=1"),
    "md": ("--steps", "5", "--timestep", "0.1"),
    "benchmark": ("--repeats", "1", "--batch", "4", "--settings", "MIMO"),
    "compare": (),
    "expressivity": (),
    "inspect": (),
    "evaluate": (),
    "export": (),
}


def _blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def _lines(page: str) -> list[str]:
    """Without those that only set a variable."""
    lines = [line for block in _blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if not line.startswith("export ")]


def _commands(page: str, program: str = "mace-tp") -> list[list[str]]:
    return [shlex.split(line)[1:] for line in _lines(page) if line.startswith(f"{program} ")]


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
    commands = [command for page in PAGES for command in _commands(page) if command[0] != "convert"]
    assert len(commands) > 8
    for command, *arguments in commands:
        outcome = run(command, *arguments, *SHORT[command])
        assert outcome.code == 0, f"{command} {arguments}: {outcome.err}"
    for program in _blocks("using.md", "python"):
        if "__main__" in program:  # starts processes, which import it
            Path("processes.py").write_text(program, encoding="utf-8")
            subprocess.run([sys.executable, "processes.py"], check=True, timeout=300)
        elif "jax_md" not in program or importlib.util.find_spec("jax_md"):
            exec(compile(program, "using.md", "exec"), {})
    assert "| PBE, 500 eV |" in (folder / "runs" / "mine" / "model" / "README.md").read_text(encoding="utf-8")
    assert (folder / "md_nve" / "energies.png").exists()


@pytest.mark.slow
def test_the_tests_that_a_page_asks_for_are_there():
    [arguments] = _commands("add_a_product.md", "python")
    done = subprocess.run([sys.executable, *arguments, "--collect-only", "-q"], cwd=DOCS.parent, capture_output=True, text=True)
    assert done.returncode == 0 and "test_bilinear.py" in done.stdout, done.stdout


def test_all_that_the_pages_show_is_run():
    """By the tests above: nothing stands in a block of another language, or in a command of another program."""
    assert {path.name for path in DOCS.glob("*.md")} == set(PAGES)
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(fences[::2]) <= {"bash", "python", "toml"} and set(fences[1::2]) <= {""}
        assert len(_commands(page)) + len(_commands(page, "python")) == len(_lines(page))
    # Those of add_a_product.md run in tests/tensor_products/test_add_a_product.py.
    shown = {page for page in PAGES for language in ("python", "toml") if _blocks(page, language)}
    assert shown <= {"using.md", "add_a_product.md"}


def test_every_page_is_linked_from_the_readme():
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert f"docs/{page.name}" in readme


def test_no_hint_installs_the_package_from_an_index_that_lacks_it():
    """mace-tp is not on PyPI: its extras are installed from the clone (`pip install -e '.[EXTRA]'`)."""
    root = DOCS.parent
    files = [path for folder in ("mace_tp", "scripts", "benchmarks", "docs", "configs") for path in (root / folder).rglob("*.*")]
    texts = [path.read_text("utf-8") for path in (*files, root / "README.md") if path.suffix in (".py", ".md", ".yaml")]
    assert any("pip install -e '.[" in text for text in texts)
    assert not [line for text in texts for line in text.splitlines() if "mace-tp[" in line]
