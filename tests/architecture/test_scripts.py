"""Scripts are where the pages say, and the page of the benchmarks lists them all."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
SUFFIXES = (".py", ".md", ".yaml", ".cc", ".h")


def test_page_of_the_benchmarks_lists_every_script():
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")}

    assert scripts == set(re.findall(r"`(\w+\.py)`", page))


def test_scripts_that_texts_name_exist():
    folders = ("mace_tp", "benchmarks", "scripts", "docs", "configs", "data", "tests")
    texts = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES] + [ROOT / "README.md"]
    named = {name for path in texts for name in re.findall(r"\b(?:scripts|benchmarks)/[\w/]+\.py", path.read_text(encoding="utf-8"))}

    assert named and not [name for name in named if not (ROOT / name).exists()]
