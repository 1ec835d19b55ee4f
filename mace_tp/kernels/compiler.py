"""The system's C++ compiler, and the instruction set that it compiles for."""

import contextlib
import dataclasses
import functools
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence

from mace_tp.errors import InputError
from mace_tp.runtime.leaving import before_leaving

TARGET = "MACE_TP_TARGET"  # environment variable: an instruction set by its `-march` name, such as x86-64-v3 (AVX2)
_NATIVE = "native"  # every instruction of this processor
_MAX_SECONDS = 600
_INSTALL = "install one (Debian and Ubuntu: g++, Fedora: gcc-c++, macOS: xcode-select --install)"
# Feature macros of compilers, the widest vectors first.
_INSTRUCTION_SETS = {"__AVX512F__": "AVX-512", "__AVX2__": "AVX2", "__AVX__": "AVX", "__SSE2__": "SSE2", "__ARM_NEON": "NEON"}


class NoKernel(InputError):
    """The kernel cannot be built or loaded here."""


class CompilerEnded(NoKernel):
    """A signal ended the compiler before it was done: from `end_compilers` or from outside."""


@dataclasses.dataclass(frozen=True)
class Compiler:
    """A command that compiles C++."""

    command: tuple[str, ...]
    version: str  # first line of `--version`


@functools.cache
def compiler() -> Compiler:
    """Return the compiler that the environment variable CXX names, or else the system's.

    Raises:
        NoKernel: there is no compiler.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX", "").strip() else ["c++", "g++", "clang++"]
    try:
        commands = [[shutil.which(program), *arguments] for program, *arguments in map(shlex.split, names)]
    except ValueError as error:
        raise NoKernel(f"CXX={os.environ['CXX']}: is no command ({error})") from error
    found = next((command for command in commands if command[0] is not None), None)
    if found is None:
        raise NoKernel(f"no C++ compiler is found ({', '.join(names)}); {_INSTALL}")
    lines = [line.strip() for line in _run([*found, "--version"]).stdout.splitlines() if line.strip()]
    return Compiler(tuple(found), lines[0] if lines else "a compiler without a version")


@functools.cache
def target_flags() -> tuple[str, ...]:
    """Return the compiler's flags for the instruction set of MACE_TP_TARGET, or else of this processor.

    Raises:
        NoKernel: there is no compiler, or this processor lacks a part of the instruction set.
    """
    march = os.environ.get(TARGET) or _NATIVE
    missing = _features(march) - _features(_NATIVE) if march != _NATIVE else ()
    if missing:
        raise NoKernel(f"{TARGET}={march}: this processor lacks {', '.join(sorted(name.strip('_') for name in missing))}")
    return (f"-march={march}",)


@functools.cache
def instruction_set() -> str:
    """Return the name of the target's vector instructions."""
    features = _features(os.environ.get(TARGET) or _NATIVE)
    return next((name for macro, name in _INSTRUCTION_SETS.items() if macro in features), "no vectors")


@functools.cache
def _features(march: str) -> frozenset[str]:
    """Return the compiler's feature macros for `march`."""
    result = _run([*compiler().command, f"-march={march}", "-x", "c++", "-dM", "-E", os.devnull])
    if result.returncode != 0:
        raise NoKernel(f"{TARGET}={march}: {_reason(result)}")
    macros = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("#define ")}
    return frozenset(name for name in macros if name.startswith(("__AVX", "__SSE", "__FMA__", "__ARM_NEON", "__ARM_FEATURE")))


_running: dict[subprocess.Popen[str], str | None] = {}  # compilers at work, each with the file that it writes


def compile_library(text: str, flags: Sequence[str], path: str) -> None:
    """Compile a C++ source text to a shared library. Any thread may call this.

    Raises:
        NoKernel: the compiler fails or takes too long.
    """
    try:
        result = _run([*compiler().command, *flags, "-x", "c++", "-", "-o", path], text, path)
    except subprocess.TimeoutExpired as error:
        raise NoKernel(f"{compiler().command[0]} takes more than {_MAX_SECONDS} s") from error
    if result.returncode == -signal.SIGTERM:
        raise CompilerEnded(f"{compiler().command[0]} was ended by SIGTERM")
    if result.returncode != 0:
        raise NoKernel(f"{compiler().command[0]} fails: {_reason(result)}")


@before_leaving
def end_compilers() -> None:
    """End all running compilers and remove their unfinished files."""
    for process, path in list(_running.items()):
        _end(process)
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _run(command: Sequence[str], text: str | None = None, path: str | None = None) -> subprocess.CompletedProcess[str]:
    pipe = subprocess.PIPE
    try:
        # In a process group of its own: a compiler is several processes, and a signal must reach all of them.
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, process_group=0)
    except OSError as error:
        raise NoKernel(f"{command[0]}: cannot be run ({error.strerror})") from error
    _running[process] = path
    try:
        with process:
            try:
                out, err = process.communicate(text, _MAX_SECONDS)
            except BaseException:  # an interrupt, too, must not leave a compiler running
                _end(process)
                raise
    finally:
        del _running[process]
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGTERM)


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    """Return the line of the compiler's output that says why it failed."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), (lines or ["it says nothing"])[0])
