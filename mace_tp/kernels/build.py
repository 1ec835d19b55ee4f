"""Compiles the kernel and its polynomials and registers them with jax.

By default a function waits for the compiler. Within `made_beside` compilers run while jax traces and compiles.
"""

import contextlib
import ctypes
import functools
import importlib.metadata
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import jax

from mace_tp.kernels.compiler import CompilerEnded, NoKernel, compiler, instruction_set
from mace_tp.kernels.library import Library, NotLoaded
from mace_tp.kernels.polynomial import Polynomial
from mace_tp.kernels.source import TYPES, source, symbol
from mace_tp.kernels.workers import workers

_LOG = logging.getLogger("mace_tp")
DTYPES = tuple(TYPES)
_FILES = {"evaluate": "kernel.cc", "linear": "linear.cc"}


@functools.cache
def tell_once(reason: str) -> None:
    """Warn, once for each reason, that XLA evaluates a product instead of the kernel."""
    _LOG.warning("kernel: xla, which is slower: %s", reason)


def target_name(handler: str, dtype: str) -> str:
    """Return the name under which jax knows a handler.

    Args:
        handler: `evaluate` of kernel.cc or `linear` of linear.cc.
        dtype: float32 or float64.

    Raises:
        NoKernel: there is no compiler, the compiler fails, or jax rejects the handler.
    """
    return _name(_Program.of(handler, dtype))


def function_name(polynomial: Polynomial, dtype: str, channels: int) -> str:
    """Return the name under which the kernel knows a polynomial.

    Raises:
        NoKernel: the polynomial cannot be compiled; a failure is not tried again.
    """
    return _name(_Function.of(polynomial, dtype, channels))


def kernel_version(dtype: str) -> str:
    """Build the kernel for a dtype if it is not in the cache; return its instruction set and compiler as text.

    Raises:
        NoKernel: the kernel cannot be built.
    """
    _Program.of("evaluate", dtype).loaded()
    return f"{instruction_set()}, {compiler().version}"


def begin_kernel(dtype: str) -> None:
    """Start to compile kernel.cc and linear.cc if there are `workers`. A failure is raised later, when a handler is needed."""
    for handler in _FILES:
        _Program.of(handler, dtype)


_gives_names: ContextVar[bool] = ContextVar("gives_names", default=False)
# `_named`: parts whose names are in a trace of jax (of any thread) and whose compiler may still run. `_failed`: parts without a library.
_named: list["_Part"] = []
_failed: set["_Part"] = set()


@contextlib.contextmanager
def made_beside() -> Iterator[None]:
    """Within this context names are returned before the compiler is done.

    A function that was traced here must not run before `parts_are_there`.
    """
    with workers():
        token = _gives_names.set(True)
        try:
            yield
        except BaseException:
            if _named:  # jax has cached traces that name functions which will never be compiled
                jax.clear_caches()
            raise
        finally:
            _gives_names.reset(token)


def num_failed() -> int:
    """Return how many parts have failed to compile so far. A trace from before the last failure may hold the name of the failed part."""
    return len(_failed)


def programs_are_there(before: int) -> bool:
    """Wait for the handlers, which XLA needs when it compiles.

    Args:
        before: `num_failed` before the function was traced.

    Returns:
        True: every handler is there. False: one failed, and the function must be traced again.
    """
    return _are_there([part for part in _named if isinstance(part, _Program)], before)


def parts_are_there(before: int) -> bool:
    """Wait for everything that the kernel needs when it runs, functions of polynomials included. Otherwise as `programs_are_there`."""
    return _are_there(list(_named), before)


def _are_there(parts: list["_Part"], before: int) -> bool:
    for part in parts:
        if part.reason():
            _failed.add(part)  # before the part leaves the list: another thread may read both
        with contextlib.suppress(ValueError):  # another thread has removed it already
            _named.remove(part)
    return len(_failed) == before


class _Part:
    """A library that is compiled, loaded and registered with its caller; a failure is not tried again."""

    name: str
    _library: Library | NoKernel
    _known: ctypes.CDLL | NoKernel | None = None  # the loaded library or the failure, once known

    @property
    def is_being_made(self) -> bool:
        return isinstance(self._library, Library) and self._library.is_being_made

    def loaded(self) -> ctypes.CDLL:
        """Wait for the compiler, load the library and register it.

        Raises:
            NoKernel: one of these failed, now or earlier.
        """
        if isinstance(self._outcome, NoKernel):
            raise NoKernel(str(self._outcome))
        return self._outcome

    def reason(self) -> str | None:
        """Wait for the compiler; return why it failed, or None if the library is loaded."""
        return str(self._outcome) if isinstance(self._outcome, NoKernel) else None

    @property
    def _outcome(self) -> ctypes.CDLL | NoKernel:
        if self._known is None:
            try:
                self._known = self._library if isinstance(self._library, NoKernel) else self._hand_over(self._library)
            except CompilerEnded as error:  # an interrupt of another thread ended the compiler; the next call tries again
                return error
            except NoKernel as error:
                self._known = error
        return self._known

    def _hand_over(self, library: Library) -> ctypes.CDLL:
        """Load the library and register it with its caller.

        Raises:
            NoKernel: it cannot be compiled or loaded.
        """
        raise NotImplementedError


class _Program(_Part):
    """The handler of a source file beside this module, for one dtype."""

    def __init__(self, handler: str, dtype: str) -> None:
        self._text = _with_headers(Path(__file__).with_name(_FILES[handler]).read_text(encoding="utf-8"))
        self._flags = "-O3", "-isystem", jax.ffi.include_dir(), f"-DMACE_TP_TYPE={TYPES[dtype]}"
        self._version = importlib.metadata.version("jaxlib")
        self._library = _library(self._text, self._flags, self._version)
        stem = self._library.path.stem if isinstance(self._library, Library) else "none"
        self.name = f"{stem}_{handler}_{dtype}"

    @classmethod
    @functools.cache
    def of(cls, handler: str, dtype: str) -> "_Program":
        return cls(handler, dtype)

    def _hand_over(self, library: Library) -> ctypes.CDLL:
        try:
            loaded = library.load()
        except NotLoaded:
            # Python may bring an older C++ library than the compiler's (conda does); a library that is linked statically still loads.
            loaded = Library(self._text, (*self._flags, "-static-libstdc++", "-static-libgcc"), self._version).load()
        jax.ffi.register_ffi_target(self.name, jax.ffi.pycapsule(loaded.mace_tp_handler), platform="cpu")
        return loaded


class _Function(_Part):
    """The compiled function of a polynomial, for one dtype and number of channels."""

    def __init__(self, polynomial: Polynomial, dtype: str, channels: int) -> None:
        self.name = symbol(polynomial, dtype, channels)
        self._program = _Program.of("evaluate", dtype)
        if not self._program.is_being_made and self._program.reason():
            self._library = NoKernel(self._program.reason())  # without the handler nothing can call the function
        else:
            self._library = _library(_with_headers(source(polynomial, dtype, channels)), (), "")

    @classmethod
    @functools.cache
    def of(cls, polynomial: Polynomial, dtype: str, channels: int) -> "_Function":
        return cls(polynomial, dtype, channels)

    def _hand_over(self, library: Library) -> ctypes.CDLL:
        loaded, program = library.load(), self._program.loaded()
        program.add_polynomial(self.name.encode(), ctypes.cast(loaded[self.name], ctypes.c_void_p))
        return loaded


def _name(part: _Part) -> str:
    if _gives_names.get() and part.is_being_made:
        _named.append(part)
    else:
        part.loaded()
    return part.name


def _library(text: str, flags: tuple[str, ...], version: str) -> Library | NoKernel:
    try:
        return Library(text, flags, version)
    except NoKernel as error:
        return error


def _with_headers(text: str) -> str:
    """Return a source with the headers beside this module inserted, so that the digest of the text depends on them."""
    for header in ("aligned.h", "parallel.h", "ffi.h", "vector.h"):
        include = f'#include "{header}"\n'
        text = text.replace(include, Path(__file__).with_name(header).read_text(encoding="utf-8"), 1).replace(include, "")
    return text.replace("#pragma once\n", "")
