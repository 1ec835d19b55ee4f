"""Compiles the kernel and its polynomials with the system's compiler, once for each machine, and hands them to jax."""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax

from mace_tp.cache import cache_directory, processor
from mace_tp.compilation import compiling
from mace_tp.errors import InputError
from mace_tp.kernel.polynomial import Polynomial
from mace_tp.kernel.source import source, symbol

_LOG = logging.getLogger("mace_tp")
DTYPES = ("float32", "float64")
_FILES = {"evaluate": "kernel.cc", "linear": "linear.cc"}
# Contraction makes one instruction of a product and a sum; it does not depend on the order in which anything runs.
_FLAGS = ("-std=c++17", "-O1", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared", "-w")
_MORE_FLAGS = "MACE_TP_CXXFLAGS"  # of the environment: further ones, such as those of a sanitizer
_MAX_SECONDS = 600


@functools.cache
def tell_once(reason: str) -> None:
    """Log why something is evaluated without the kernel."""
    _LOG.warning("kernel: xla, which is slower: %s", reason)


class NoKernel(InputError):
    """The kernel cannot be built or loaded here."""


@functools.cache
def target_name(handler: str, dtype: str) -> str:
    """The name by which jax knows a handler, which is built if that has not been done before.

    Args:
        handler: `evaluate` of kernel.cc or `linear` of linear.cc.
        dtype: float32 or float64.

    Raises:
        NoKernel: there is no compiler, or it or jax does not take the source.
    """
    library = _library(_FILES[handler])
    name = f"{Path(library._name).stem}_{handler}_{dtype}"
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(library[f"{handler}_{dtype}"]), platform="cpu")
    return name


class _NotLoaded(NoKernel):
    """A library was made and cannot be loaded."""


def _library(file: str) -> ctypes.CDLL:
    """The program of a source file, which is built if that has not been done before; what fails is not tried again."""
    library = _library_or_reason(file)
    if isinstance(library, str):
        raise NoKernel(library)
    return library


@functools.cache
def _library_or_reason(file: str) -> ctypes.CDLL | str:
    try:
        return _built(file)
    except NoKernel as error:
        return str(error)


def _built(file: str) -> ctypes.CDLL:
    folder = Path(__file__).parent
    text = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("parallel.h", file))
    # One text, so that its digest is of all that it is made of.
    text = text.replace('#include "parallel.h"\n', "")
    flags = "-O3", "-isystem", jax.ffi.include_dir()
    try:
        return _made(text, flags, importlib.metadata.version("jaxlib"))
    except _NotLoaded:
        # A Python that brings an older C++ library than the compiler's, as conda's may, loads what brings its own.
        return _made(text, (*flags, "-static-libstdc++", "-static-libgcc"), importlib.metadata.version("jaxlib"))


def function_name(polynomial: Polynomial, dtype: str) -> str:
    """The name by which the kernel knows a polynomial, which is compiled if that has not been done before.

    Raises:
        NoKernel: it cannot be, now or earlier.
    """
    name, reason = _function(polynomial, dtype)
    if reason is not None:
        raise NoKernel(reason)
    return name


@functools.cache
def _function(polynomial: Polynomial, dtype: str) -> tuple[str, str | None]:
    """The name, and why there is no such function; what fails is not tried again."""
    name = symbol(polynomial, dtype)
    try:
        library = _library("kernel.cc")
        function = _made(source(polynomial, dtype), (), "")[name]
    except NoKernel as error:
        return name, str(error)
    library.add_polynomial(name.encode(), ctypes.cast(function, ctypes.c_void_p))
    return name, None


def compiler_version() -> str:
    """Of the compiler that made the kernel, which is built if that has not been done before.

    Raises:
        NoKernel: it cannot be.
    """
    _library("kernel.cc")
    return _compiler()[-1]


def _made(text: str, flags: tuple[str, ...], version: str) -> ctypes.CDLL:
    """The shared library made of a source text; its name in the cache says all that it depends on."""
    (*compiler, compiler_says), flags = _compiler(), (*_FLAGS, *flags, *os.environ.get(_MORE_FLAGS, "").split())
    digest = hashlib.sha256("\n".join([text, *flags, *compiler, compiler_says, version, processor()]).encode()).hexdigest()[:24]
    try:
        path = cache_directory() / "kernel" / f"mace_tp_{digest}.so"
        if path.exists():
            with contextlib.suppress(OSError):  # one that is damaged is made anew
                return ctypes.CDLL(str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
    except (OSError, RuntimeError) as error:  # the latter: there is no home
        raise NoKernel(f"the folder for compiled kernels cannot be used ({error})") from error
    try:
        _compile(text, compiler, flags, part)
        os.replace(part, path)  # complete or not at all, whoever else builds it
    except OSError as error:
        raise NoKernel(f"{path}: cannot be made ({error})") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise _NotLoaded(f"{path}: cannot be loaded ({error})") from error


def _compile(text: str, compiler: Sequence[str], flags: Sequence[str], path: str) -> None:
    try:
        command = [*compiler, *flags, "-x", "c++", "-", "-o", path]
        with compiling("the kernel for this processor", is_kept=True):
            result = subprocess.run(command, input=text, text=True, capture_output=True, timeout=_MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise NoKernel(f"{compiler[0]} takes more than {_MAX_SECONDS} s") from error
    if result.returncode != 0:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        raise NoKernel(f"{compiler[0]} fails: {next((line for line in lines if 'error' in line), (lines or ['it says nothing'])[0])}")


@functools.cache
def _compiler() -> tuple[str, ...]:
    """The C++ compiler, with the arguments that `CXX` gives it, and what it says of its version."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    commands = [[shutil.which(program), *arguments] for program, *arguments in map(shlex.split, names)]
    found = next((command for command in commands if command[0] is not None), None)
    if found is None:
        raise NoKernel(f"no C++ compiler is found ({', '.join(names)})")
    try:
        result = subprocess.run([*found, "--version"], text=True, capture_output=True, check=False)
    except OSError as error:
        raise NoKernel(f"{found[0]}: cannot be run ({error.strerror})") from error
    return *found, next((line.strip() for line in result.stdout.splitlines() if line.strip()), "a compiler without a version")
