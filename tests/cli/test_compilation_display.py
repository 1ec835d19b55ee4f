"""Elapsed time in a terminal while something is compiled, and a line before it."""

import contextlib
import io
import logging
import re
import time

import pytest

from mace_tp.cli.compilation_display import elapsed_time, told_compilations
from mace_tp.runtime.compilation import LOGGER, compiling


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """Without control codes."""
        return re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", self.getvalue())


@pytest.fixture(autouse=True)
def term(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_shows_elapsed_time():
    with contextlib.redirect_stderr(Terminal()) as terminal, elapsed_time():
        time.sleep(0.6)  # twice the interval between pictures

    assert "- compiling 0:00:00" in terminal.text() and "/ compiling 0:00:00" in terminal.text()
    assert terminal.getvalue().endswith("\x1b[2K"), "the line is erased"


def test_nothing_is_shown_where_stderr_is_no_terminal():
    with contextlib.redirect_stderr(io.StringIO()) as stderr, elapsed_time():
        time.sleep(0.3)

    assert stderr.getvalue() == ""


def test_a_command_without_a_log_prints_the_line():
    with contextlib.redirect_stderr(Terminal()) as terminal, contextlib.redirect_stdout(io.StringIO()) as stdout:
        with told_compilations(), compiling("the evaluation"):
            time.sleep(0.3)
        with compiling("another time"):
            pass

    assert stdout.getvalue() == "compiling the evaluation; later runs find it in the cache\n"
    assert "compiling 0:00:00" in terminal.text()
    assert not LOGGER.handlers and LOGGER.level == logging.NOTSET
