"""How the command prepares its process before jax computes, what it prints about itself, and how it ends if nobody reads the output."""

import importlib.metadata
import os
import sys
from unittest import mock

import pytest
from command import output_to_full_disk, output_to_nobody

import mace_tp
from mace_tp.cli.main import COMMANDS, main, set_xla_flags


@pytest.mark.parametrize("given", ["", "--xla_dump_to=here", "--xla_backend_extra_options=own"])
def test_xla_flags_of_the_user_stay(given, monkeypatch):
    monkeypatch.delenv("MACE_TP_TARGET", raising=False)
    monkeypatch.setenv("XLA_FLAGS", given)

    for _ in range(2):  # a command may restart itself
        set_xla_flags()

    flags = os.environ["XLA_FLAGS"].split()
    assert [flag for flag in flags if "fusion_emitters" not in flag] == given.split()
    assert len([flag for flag in flags if flag.startswith("--xla_backend_extra_options")]) == 1


def test_xla_compiles_for_the_instruction_set_of_the_kernel(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("MACE_TP_TARGET", "x86-64-v3")

    set_xla_flags()

    assert "--xla_cpu_max_isa=AVX2" in os.environ["XLA_FLAGS"].split()


def test_a_file_of_xla_flags_stays_the_only_source(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "/my/flags.txt")

    set_xla_flags()

    assert os.environ["XLA_FLAGS"] == "/my/flags.txt"


@pytest.mark.parametrize("arguments", [("--version",), ("-V",), ("train", "--version"), ("evaluate", "--version")])
def test_the_version_is_told(arguments, run):
    outcome = run(*arguments)

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"mace-tp {importlib.metadata.version('mace-tp')}\n" == f"mace-tp {mace_tp.__version__}\n"


def test_the_public_names_are_listed():
    assert {"Calculator", "Config", "Evaluator", "__version__", "load_model", "train"} <= set(dir(mace_tp))
    assert "importlib" not in dir(mace_tp)
    assert all(hasattr(mace_tp, name) for name in mace_tp.__all__)


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_a_reader_that_has_gone_ends_the_command_quietly(arguments, run):
    with output_to_nobody() as nobody:
        outcome = run(*arguments, out=nobody)
    assert (outcome.code, outcome.err) == (141, "")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--cfg", "job"], ["evaluate", "--help"]], ids=" ".join)
def test_an_output_that_is_full_is_told_in_one_line(arguments, run):
    with output_to_full_disk() as unbuffered:
        outcome = run(*arguments, out=unbuffered)
    assert (outcome.code, outcome.err) == (1, "mace-tp: standard output: cannot be written (No space left on device)\n")

    with output_to_full_disk() as unbuffered, open(unbuffered.fileno(), "w", closefd=False) as full:
        outcome = run(*arguments, out=full)
    assert (outcome.code, outcome.err) == (1, "mace-tp: standard output: cannot be written (No space left on device)\n")


def test_an_error_that_cannot_be_told_keeps_its_exit_code(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mace-tp", "no-such-command"])
    with output_to_full_disk() as full, mock.patch.object(sys, "stderr", full), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
