"""The command `mace-tp` in this process."""

import contextlib
import dataclasses
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from hydra.core.global_hydra import GlobalHydra

from mace_tp.cli.main import main
from mace_tp.training.signals import SIGNALS

# As small as a model can be that still has every part.
TINY = (
    "model.cutoff=3", "model.l_max=1", "model.hidden_irreps=0e", "model.correlation=2", "model.num_channels=2", "model.num_interactions=1",
    "model.radial_mlp=[4]", "model.num_bessel=4", "data.batch_size=2", "dtype=float64", "device=cpu",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def run_command(*arguments: str | Path, out: io.TextIOBase | None = None) -> Outcome:
    """Run `mace-tp ARGUMENTS`, if wanted with a standard output that is given, and leave the process as it was."""
    GlobalHydra.instance().clear()
    # With the tunables set, the command does not restart itself.
    environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MACE_TP_STARTED": str(time.monotonic())}
    told, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["mace-tp", *map(str, arguments)]),
        contextlib.redirect_stdout(told if out is None else out),
        contextlib.redirect_stderr(err),
        _same_logging(),
        _same_signals(),
    ):
        code = _exit_code(main)
    return Outcome(code, told.getvalue(), err.getvalue())


def _exit_code(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as error:
        if isinstance(error.code, str):  # as the interpreter does
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    return 0


@contextlib.contextmanager
def _same_signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def _same_logging() -> Iterator[None]:
    logger = logging.getLogger("mace_tp")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@contextlib.contextmanager
def output_to_nobody() -> Iterator[io.TextIOBase]:
    """A standard output that is a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        yield nobody


@contextlib.contextmanager
def output_to_full_disk() -> Iterator[io.TextIOBase]:
    """A standard output of a Python that does not buffer, on a disk that is full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is always full")
    with open("/dev/full", "wb", buffering=0) as full:
        yield io.TextIOWrapper(full, write_through=True)


def assert_one_line(outcome: Outcome, *said: str) -> None:
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("mace-tp")
    for text in said:
        assert text in outcome.err, f"{text!r} is not in: {outcome.err}"
