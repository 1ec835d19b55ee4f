"""What the command does to its process before jax computes."""

import os

import pytest

from mace_tp.cli.main import use_light_compiler


@pytest.mark.parametrize("given", ["", "--xla_dump_to=here", "--xla_backend_extra_options=own"])
def test_xla_flags_of_the_user_stay(given, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", given)

    for _ in range(2):  # a command may start itself anew
        use_light_compiler()

    flags = os.environ["XLA_FLAGS"].split()
    assert [flag for flag in flags if "fusion_emitters" not in flag] == given.split()
    assert len([flag for flag in flags if flag.startswith("--xla_backend_extra_options")]) == 1


def test_a_file_of_xla_flags_stays_the_only_source(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "/my/flags.txt")

    use_light_compiler()

    assert os.environ["XLA_FLAGS"] == "/my/flags.txt"
