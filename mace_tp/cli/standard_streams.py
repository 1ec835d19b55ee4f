"""Standard output and standard error of a command, for every encoding, for readers that go away and for full disks."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO


def guard_streams() -> None:
    """Let the command end if standard output fails, whatever code prints, and go on if standard error fails.

    The failure raises a SystemExit, because libraries catch OSErrors. A closed pipe, as with `head`, ends the command with exit code 141
    and no message. A full disk ends it with exit code 1 and one line. A character that the encoding lacks, such as Å, is printed as a
    question mark.
    """
    sys.stdout, sys.stderr = _guarded(sys.stdout, _end), _guarded(sys.stderr, lambda error: None)


@contextlib.contextmanager
def outlived_output(tell: Callable[[str], None]) -> Iterator[None]:
    """Within this context a failing standard output does not end the command. A function gets the reason once; later text is dropped."""
    file = _file_of(sys.stdout)
    if not isinstance(file, _File):  # the stream belongs to a program that calls the command
        yield
        return
    before, file.on_failure = file.on_failure, lambda error: tell(_message(error))
    try:
        yield
        sys.stdout.flush()
    finally:
        file.on_failure = before


class _File(io.FileIO):
    """The file of a stream. After its first failure it drops all text."""

    def __init__(self, number: int, on_failure: Callable[[OSError], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self.on_failure = on_failure

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            self.on_failure(error)
            return memoryview(data).nbytes


def _guarded(stream: TextIO, on_failure: Callable[[OSError], None]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # it is None, or belongs to a program that calls the command
        return stream
    if type(_file_of(stream)) is not io.FileIO:
        stream.reconfigure(errors="replace")
        return stream
    file: io.FileIO | io.BufferedWriter = _File(stream.fileno(), on_failure)
    if isinstance(stream.buffer, io.BufferedWriter):
        file = io.BufferedWriter(file)
    return io.TextIOWrapper(
        file, encoding=stream.encoding, errors="replace", line_buffering=stream.line_buffering, write_through=stream.write_through
    )


def _file_of(stream: object) -> object:
    """Return the raw file of a stream, which is its buffer if Python does not buffer."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _end(error: OSError) -> None:
    """End the command with a SystemExit, the only exception that ends it everywhere."""
    if isinstance(error, BrokenPipeError):
        raise SystemExit(141)
    print(f"mace-tp: {_message(error)}", file=sys.stderr)
    raise SystemExit(1)


def _message(error: OSError) -> str:
    return f"standard output: cannot be written ({error.strerror})"
