"""Files are where texts say that they are, and the page of the benchmarks lists every script."""

import inspect
import pathlib
import re

from mace_tp.config import Config
from mace_tp.model.architecture import Architecture

ROOT = pathlib.Path(__file__).parents[2]
SUFFIXES = (".py", ".md", ".yaml", ".cc", ".h")


def test_page_of_the_benchmarks_lists_every_script():
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")}

    assert scripts == set(re.findall(r"`(\w+\.py)`", page))


def test_files_that_texts_name_exist():
    """In code, pages and configurations; a path is one that begins with a folder at the root."""
    folders = ("mace_tp", "benchmarks", "scripts", "docs", "configs", "data", "tests")
    texts = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    texts += [ROOT / "README.md", ROOT / "pyproject.toml", ROOT / ".ci" / "run"]
    pattern = rf"(?<![\w/])(?:{'|'.join(folders)})/[\w/-]+\.(?:py|md|yaml|cc|h|png)\b"
    named = {(path.relative_to(ROOT), name) for path in texts for name in re.findall(pattern, path.read_text(encoding="utf-8"))}

    assert named and not [(str(path), name) for path, name in named if not (ROOT / name).exists()]


def test_the_help_of_the_configuration_names_the_files_with_the_keys():
    text = (ROOT / "configs" / "config.yaml").read_text(encoding="utf-8")
    where = [str(pathlib.Path(inspect.getfile(of)).relative_to(ROOT)) for of in (Config, Architecture)]

    assert re.findall(r"[\w/]+\.py", text) == where * 2, "at the top and in the footer"
