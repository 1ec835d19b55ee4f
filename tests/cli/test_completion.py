"""The script of `mace-tp completion bash`, asked by a bash as a key press asks it."""

import shutil
import subprocess

import pytest

from mace_tp.cli.main import COMMANDS

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture(scope="module")
def complete(run, tmp_path_factory):
    """Return the words that bash offers for a line; none if it completes file names."""
    path = tmp_path_factory.mktemp("completion") / "script"
    outcome = run("completion", "bash")
    assert outcome.code == 0 and outcome.err == ""
    path.write_text(outcome.out)

    def offered(*words: str, breaks: str = "\"'><=;|&(: ") -> list[str]:
        asked = 'COMP_WORDBREAKS=$1; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mace_tp 2>&1; echo "${COMPREPLY[@]}"'
        command = ["bash", "--norc", "-c", f"source {path}; {asked}", "bash", breaks, "mace-tp", *words]
        # Outside of a key press `compopt` fails, which is no matter.
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()

    return offered


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], ["train"]),
        (["evaluate", "--dt"], ["--dtype"]),
        (["evaluate", "--dtype", ""], ["float32", "float64"]),
        (["convert", ""], ["mace-torch", "to-mace-torch"]),
        (["convert", "mace-torch", "--tr"], ["--trust"]),
        (["train", "trainer.max_"], ["trainer.max_epochs=", "trainer.max_minutes="]),
        (["train", "-m", "trainer.max_e"], ["trainer.max_epochs="]),
        (["train", "seed", "=", "0", "optimizer", "="], ["acesuit"]),
        (["train", "data.on_bad_frame", "=", "s"], ["skip"]),
        (["train", "tensor_product.interaction", "=", "sph"], ["spherical_grid"]),
        (["train", "trainer.resume", "="], ["null", "auto", "anyway"]),
        (["train", "optimizer.amsgrad", "="], ["true", "false"]),
        (["train", "--con"], ["--config"]),
        (["train", "--config", "my"], []),
        (["train", "data.train", "=", "my"], []),
        (["evaluate", "runs"], []),
    ],
    ids=lambda words: " ".join(words),
)
def test_words_that_can_come_next(words, offered, complete):
    assert complete(*words) == offered


def test_every_command_is_offered(complete):
    assert set(COMMANDS) < set(complete(""))


def test_a_value_where_bash_does_not_split_at_equals_signs(complete):
    assert complete("train", "optimizer=ac", breaks=" ") == ["optimizer=acesuit"]


def test_the_completion_of_hydra_points_here(run):
    outcome = run("train", "--shell-completion", "install=bash")

    assert outcome.code == 2 and outcome.err == "mace-tp train: --shell-completion: mace-tp completion bash prints a script for the shell\n"
