"""Compiles the kernel and its polynomials with the system's compiler, once for each machine, and hands them to jax."""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import logging
import os
import tempfile
from pathlib import Path

import jax

from mace_tp.cache import cache_directory, processor
from mace_tp.kernel.compiler import NoKernel, compile_library, compiler, instruction_set, target_flags
from mace_tp.kernel.polynomial import Polynomial
from mace_tp.kernel.source import source, symbol

_LOG = logging.getLogger("mace_tp")
DTYPES = ("float32", "float64")
_FILES = {"evaluate": "kernel.cc", "linear": "linear.cc"}
# Contraction makes one instruction of a product and a sum, with GCC only together with expensive optimizations; it does not depend on the
# order in which anything runs.
_FLAGS = ("-std=c++17", "-O1", "-fexpensive-optimizations", "-ffp-contract=fast", "-fPIC", "-shared", "-w")
_MORE_FLAGS = "MACE_TP_CXXFLAGS"  # of the environment: further ones, such as those of a sanitizer


@functools.cache
def tell_once(reason: str) -> None:
    """Log why something is evaluated without the kernel."""
    _LOG.warning("kernel: xla, which is slower: %s", reason)


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
    text = _with_headers(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    flags = "-O3", "-isystem", jax.ffi.include_dir()
    try:
        return _made(text, flags, importlib.metadata.version("jaxlib"))
    except _NotLoaded:
        # A Python that brings an older C++ library than the compiler's, as conda's may, loads what brings its own.
        return _made(text, (*flags, "-static-libstdc++", "-static-libgcc"), importlib.metadata.version("jaxlib"))


def _with_headers(text: str) -> str:
    """One text of a source and the headers beside this file, so that its digest depends on all of them."""
    for header in ("aligned.h", "parallel.h", "ffi.h", "vector.h"):
        include = f'#include "{header}"\n'
        text = text.replace(include, Path(__file__).with_name(header).read_text(encoding="utf-8"), 1).replace(include, "")
    return text.replace("#pragma once\n", "")


def function_name(polynomial: Polynomial, dtype: str, channels: int) -> str:
    """The name by which the kernel knows a polynomial, which is compiled if that has not been done before.

    Raises:
        NoKernel: it cannot be, now or earlier.
    """
    name, reason = _function(polynomial, dtype, channels)
    if reason is not None:
        raise NoKernel(reason)
    return name


@functools.cache
def _function(polynomial: Polynomial, dtype: str, channels: int) -> tuple[str, str | None]:
    """The name, and why there is no such function; what fails is not tried again."""
    name = symbol(polynomial, dtype, channels)
    try:
        library = _library("kernel.cc")
        function = _made(_with_headers(source(polynomial, dtype, channels)), (), "")[name]
    except NoKernel as error:
        return name, str(error)
    library.add_polynomial(name.encode(), ctypes.cast(function, ctypes.c_void_p))
    return name, None


def kernel_version() -> str:
    """Instruction set and compiler of the kernel, which is built if that has not been done before.

    Raises:
        NoKernel: it cannot be.
    """
    _library("kernel.cc")
    return f"{instruction_set()}, {compiler().version}"


def _made(text: str, flags: tuple[str, ...], version: str) -> ctypes.CDLL:
    """The shared library made of a source text; its name in the cache says all that it depends on."""
    flags = (*_FLAGS, *target_flags(), *flags, *os.environ.get(_MORE_FLAGS, "").split())
    names = [text, *flags, *compiler().command, compiler().version, version, processor()]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:24]
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
        compile_library(text, flags, part)
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
