"""Compiles the kernel and its polynomials and hands them to jax: at once or, within `made_beside`, while jax traces and compiles."""

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
    """Log why something is evaluated without the kernel."""
    _LOG.warning("kernel: xla, which is slower: %s", reason)


def target_name(handler: str, dtype: str) -> str:
    """The name by which jax knows a handler.

    Args:
        handler: `evaluate` of kernel.cc or `linear` of linear.cc.
        dtype: float32 or float64.

    Raises:
        NoKernel: there is no compiler, or it or jax does not take the source.
    """
    return _name(_Program.of(handler, dtype))


def function_name(polynomial: Polynomial, dtype: str, channels: int) -> str:
    """The name by which the kernel knows a polynomial.

    Raises:
        NoKernel: it cannot be compiled, now or earlier.
    """
    return _name(_Function.of(polynomial, dtype, channels))


def kernel_version(dtype: str) -> str:
    """Instruction set and compiler of the kernel for a dtype, which is built if that has not been done before.

    Raises:
        NoKernel: it cannot be.
    """
    _Program.of("evaluate", dtype).loaded()
    return f"{instruction_set()}, {compiler().version}"


def begin_kernel(dtype: str) -> None:
    """Begin to compile kernel.cc and linear.cc, if there are `workers`. A failure is raised when a handler is needed."""
    for handler in _FILES:
        _Program.of(handler, dtype)


_gives_names: ContextVar[bool] = ContextVar("gives_names", default=False)
# Parts whose names are in traces of jax, of any thread, and which nobody has waited for yet; and parts that could not be made.
_named: list["_Part"] = []
_failed: set["_Part"] = set()


@contextlib.contextmanager
def made_beside() -> Iterator[None]:
    """Return names before the compiler is done. Functions that were traced in this context must not run before `parts_are_there`."""
    with workers():
        token = _gives_names.set(True)
        try:
            yield
        except BaseException:
            if _named:  # jax remembers traces with names that nobody makes any more
                jax.clear_caches()
            raise
        finally:
            _gives_names.reset(token)


def num_failed() -> int:
    """Number of parts that could not be made so far. A trace that is older than the last of them may hold its name."""
    return len(_failed)


def programs_are_there(before: int) -> bool:
    """Wait for the handlers that XLA needs when it compiles.

    Args:
        before: `num_failed` before the function was traced.

    Returns:
        Whether all are there; if not, the function must be traced anew.
    """
    return _are_there([part for part in _named if isinstance(part, _Program)], before)


def parts_are_there(before: int) -> bool:
    """The same for the functions that the kernel needs when it runs."""
    return _are_there(list(_named), before)


def _are_there(parts: list["_Part"], before: int) -> bool:
    for part in parts:
        if part.reason():
            _failed.add(part)  # before it leaves the list, which another thread may look at
        with contextlib.suppress(ValueError):  # another thread was first
            _named.remove(part)
    return len(_failed) == before


class _Part:
    """A library that is made, then handed over to whoever calls it; what fails is not tried again."""

    name: str
    _library: Library | NoKernel
    _known: ctypes.CDLL | NoKernel | None = None  # once it is known

    @property
    def is_being_made(self) -> bool:
        return isinstance(self._library, Library) and self._library.is_being_made

    def loaded(self) -> ctypes.CDLL:
        """Wait for it, then hand it over.

        Raises:
            NoKernel: it cannot be made, now or earlier.
        """
        if isinstance(self._outcome, NoKernel):
            raise NoKernel(str(self._outcome))
        return self._outcome

    def reason(self) -> str | None:
        """Why there is none; None: there is one. It is waited for."""
        return str(self._outcome) if isinstance(self._outcome, NoKernel) else None

    @property
    def _outcome(self) -> ctypes.CDLL | NoKernel:
        if self._known is None:
            try:
                self._known = self._library if isinstance(self._library, NoKernel) else self._hand_over()
            except CompilerEnded as error:  # by an interrupt of another thread; the next one who asks tries again
                return error
            except NoKernel as error:
                self._known = error
        return self._known

    def _hand_over(self) -> ctypes.CDLL:
        raise NotImplementedError


class _Program(_Part):
    """A source file beside this one, for one type of numbers."""

    def __init__(self, handler: str, dtype: str) -> None:
        self._text = _with_headers(Path(__file__).with_name(_FILES[handler]).read_text(encoding="utf-8"))
        self._flags = "-O3", "-isystem", jax.ffi.include_dir(), f"-DMACE_TP_TYPE={TYPES[dtype]}"
        self._library = self._made(*self._flags)
        stem = self._library.path.stem if isinstance(self._library, Library) else "none"
        self.name = f"{stem}_{handler}_{dtype}"

    @classmethod
    @functools.cache
    def of(cls, handler: str, dtype: str) -> "_Program":
        return cls(handler, dtype)

    def _made(self, *flags: str) -> Library | NoKernel:
        return _library(self._text, flags, importlib.metadata.version("jaxlib"))

    def _hand_over(self) -> ctypes.CDLL:
        try:
            library = self._library.load()
        except NotLoaded:
            # A Python that brings an older C++ library than the compiler's, as conda's may, loads what brings its own.
            library = self._made(*self._flags, "-static-libstdc++", "-static-libgcc").load()
        jax.ffi.register_ffi_target(self.name, jax.ffi.pycapsule(library.mace_tp_handler), platform="cpu")
        return library


class _Function(_Part):
    """The function of a polynomial for one type of numbers and number of channels."""

    def __init__(self, polynomial: Polynomial, dtype: str, channels: int) -> None:
        self.name = symbol(polynomial, dtype, channels)
        self._program = _Program.of("evaluate", dtype)
        if not self._program.is_being_made and self._program.reason():
            self._library = NoKernel(self._program.reason())  # no function without the program that calls it
        else:
            self._library = _library(_with_headers(source(polynomial, dtype, channels)), (), "")

    @classmethod
    @functools.cache
    def of(cls, polynomial: Polynomial, dtype: str, channels: int) -> "_Function":
        return cls(polynomial, dtype, channels)

    def _hand_over(self) -> ctypes.CDLL:
        library, program = self._library.load(), self._program.loaded()
        program.add_polynomial(self.name.encode(), ctypes.cast(library[self.name], ctypes.c_void_p))
        return library


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
    """One text of a source and the headers beside this file, so that its digest depends on all of them."""
    for header in ("aligned.h", "parallel.h", "ffi.h", "vector.h"):
        include = f'#include "{header}"\n'
        text = text.replace(include, Path(__file__).with_name(header).read_text(encoding="utf-8"), 1).replace(include, "")
    return text.replace("#pragma once\n", "")
