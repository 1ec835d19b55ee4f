"""Compiles the kernel and its polynomials with the system's compiler, once for each machine, and hands them to jax."""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import logging
import os
import shutil
import subprocess
from pathlib import Path

import jax

from mace_tp.cache import cache_directory, processor
from mace_tp.errors import InputError
from mace_tp.kernel.polynomial import Polynomial
from mace_tp.kernel.source import source, symbol

_LOG = logging.getLogger("mace_tp")
_FILES = {"evaluate": "kernel.cc", "linear": "linear.cc"}
# Contraction makes one instruction of a product and a sum; it does not depend on the order in which anything runs.
_FLAGS = ("-std=c++17", "-O1", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared", "-w")
_MORE_FLAGS = "MACE_TP_CXXFLAGS"  # of the environment: further ones, such as those of a sanitizer
_MAX_SECONDS = 600


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


@functools.cache
def _library(file: str) -> ctypes.CDLL:
    folder = Path(__file__).parent
    text = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("parallel.h", file))
    # One text, so that its digest is of all that it is made of.
    text = text.replace('#include "parallel.h"\n', "")
    return _loaded(_built(text, ("-O3", "-isystem", jax.ffi.include_dir()), importlib.metadata.version("jaxlib")))


@functools.cache
def function_name(polynomial: Polynomial, dtype: str) -> str:
    """The name by which the kernel knows a polynomial, which is compiled if that has not been done before.

    Raises:
        NoKernel: it cannot be.
    """
    name = symbol(polynomial, dtype)
    library = _library("kernel.cc")
    function = _loaded(_built(source(polynomial, dtype), (), ""))[name]
    library.add_polynomial(name.encode(), ctypes.cast(function, ctypes.c_void_p))
    return name


def _built(text: str, flags: tuple[str, ...], version: str) -> Path:
    """The shared library made of a source text; its name says all that it depends on."""
    compiler, flags = _compiler(), (*_FLAGS, *flags, *os.environ.get(_MORE_FLAGS, "").split())
    digest = hashlib.sha256("\n".join([text, *flags, *compiler, version, processor()]).encode()).hexdigest()[:24]
    path = cache_directory() / "kernel" / f"mace_tp_{digest}.so"
    if path.exists():
        return path
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [compiler[0], *flags, "-x", "c++", "-", "-o", str(part)]
        result = subprocess.run(command, input=text, text=True, capture_output=True, timeout=_MAX_SECONDS, check=False)
        if result.returncode != 0:
            raise NoKernel(f"{compiler[0]} fails: {_first_line(result.stderr)}")
        part.replace(path)  # complete or not at all, whoever else builds it
    except OSError as error:
        raise NoKernel(f"{path}: cannot be written ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise NoKernel(f"{compiler[0]} takes more than {_MAX_SECONDS} s") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NoKernel(f"{path}: cannot be loaded ({error})") from error


def compiler_version() -> str:
    """Of the compiler that made the kernel, which is built if that has not been done before.

    Raises:
        NoKernel: it cannot be.
    """
    _library("kernel.cc")
    return _compiler()[1]


@functools.cache
def _compiler() -> tuple[str, str]:
    """Path of the C++ compiler and its version."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise NoKernel(f"no C++ compiler is found ({', '.join(names)})")
    result = subprocess.run([path, "--version"], text=True, capture_output=True, check=False)
    return path, _first_line(result.stdout)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no output")
