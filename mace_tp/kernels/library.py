"""Shared libraries that the system's compiler makes from C++ source texts, kept in the cache of the machine."""

import concurrent.futures
import contextlib
import ctypes
import hashlib
import os

from mace_tp.kernels.compiler import CompilerEnded, NoKernel, compile_library, compiler, target_flags
from mace_tp.kernels.workers import begin
from mace_tp.run_directory import written_atomically
from mace_tp.runtime.cache import cache_directory, processor
from mace_tp.runtime.compilation import announce, compiling, waiting

# -ffp-contract=fast fuses a multiplication and an addition; GCC does so only with -fexpensive-optimizations. The compiler decides this, so
# results do not depend on the order in which threads run.
_FLAGS = ("-std=c++17", "-O1", "-fexpensive-optimizations", "-ffp-contract=fast", "-fPIC", "-shared", "-w")
_MORE_FLAGS = "MACE_TP_CXXFLAGS"  # environment variable: further flags, such as those of a sanitizer
_WHAT = "the kernel for this processor"


class NotLoaded(NoKernel):
    """A library was compiled but cannot be loaded."""


class Library:
    """A library in the cache; its name is the digest of everything that it depends on.

    If there are `workers`, they start to compile a missing library at once; otherwise `load` compiles it.
    """

    def __init__(self, text: str, flags: tuple[str, ...], version: str) -> None:
        """
        Args:
            text: the source.
            flags: further flags of the compiler.
            version: version of the headers that the source includes.

        Raises:
            NoKernel: there is no compiler, or the folder of the cache cannot be found.
        """
        self._text, self._flags = text, (*_FLAGS, *target_flags(), *flags, *os.environ.get(_MORE_FLAGS, "").split())
        names = [text, *self._flags, *compiler().command, compiler().version, version, processor()]
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:24]
        try:
            self.path = cache_directory() / "kernel" / f"mace_tp_{digest}.so"
            is_there = self.path.exists()
        except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home directory
            raise _no_folder(error) from error
        self._job = None if is_there else begin(self._make)
        if self._job is not None:
            announce(_WHAT, is_kept=True)

    @property
    def is_being_made(self) -> bool:
        return self._job is not None and not self._job.done()

    def load(self) -> ctypes.CDLL:
        """Return the library; compile it, or wait for the worker that does, if the cache lacks it.

        Raises:
            NoKernel: the compiler fails, or the library cannot be loaded.
        """
        if not self._is_made_beside() and self.path.exists():
            with contextlib.suppress(OSError):  # a damaged library is compiled again
                return ctypes.CDLL(str(self.path))
        if not self._is_made_beside():
            with compiling(_WHAT, is_kept=True):
                self._make()
        try:
            return ctypes.CDLL(str(self.path))
        except OSError as error:
            raise NotLoaded(f"{self.path}: cannot be loaded ({error})") from error

    def _is_made_beside(self) -> bool:
        """Wait for the worker that compiles the library; False if there is none or if it was interrupted."""
        if self._job is None:
            return False
        try:
            with waiting() if self.is_being_made else contextlib.nullcontext():
                self._job.result()
        except (concurrent.futures.CancelledError, CompilerEnded):
            self._job = None
            return False
        return True

    def _make(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _no_folder(error) from error
        try:
            with written_atomically(self.path) as beside:
                compile_library(self._text, self._flags, str(beside))
        except OSError as error:
            raise NoKernel(f"{self.path}: cannot be made ({error})") from error


def _no_folder(error: Exception) -> NoKernel:
    return NoKernel(f"the folder for compiled kernels cannot be used ({error})")
