"""The description that every file with timings holds."""

import shutil
import subprocess
from pathlib import Path

import jax
import pytest

from mace_tp.runtime.environment import describe

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git repository")
def test_commit_is_that_of_the_source_tree():
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout

    assert head.startswith(str(describe(jax.devices()[0], "float64")["commit"]).removesuffix("-dirty"))
