"""`mace-tp COMMAND`: prepares the process, then hands over to one module for each command."""

import importlib
import importlib.util
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from mace_tp.cli.signals import end_on_signals, hold_signals, leave_after_signal
from mace_tp.cli.standard_streams import guard_streams
from mace_tp.errors import InputError, TrainingError

COMMANDS = {
    "train": "train a model: mace-tp train [data.train=FILE] [key=value ...], -m for sweeps, --help for all keys",
    "evaluate": "errors and predictions of a model: mace-tp evaluate MODEL FILE...",
    "compare": "errors and costs of finished trainings side by side: mace-tp compare RUN...",
    "benchmark": "what tensor products cost: mace-tp benchmark --settings MIMO interaction product_basis",
    "expressivity": "what tensor products couple and reach: mace-tp expressivity --l-max 1 2 3",
    "md": "molecular dynamics: mace-tp md MODEL STRUCTURE --ensemble nve",
    "export": "a model as one compiled function: mace-tp export MODEL OUT",
    "convert": "models of mace-torch, both ways: mace-tp convert mace-torch FILE.model OUT --trust",
    "inspect": "what is in files of structures, and what looks wrong: mace-tp inspect FILE...",
    "completion": "a script with which the shell completes all this: mace-tp completion bash",
}
_COMPILES_ANEW = ("benchmark",)  # commands that tell how long it takes to compile
_STARTED = "MACE_TP_STARTED"
# By the names of the compiler those of XLA.
_XLA_ISAS = {"x86-64-v2": "SSE4_2", "x86-64-v3": "AVX2", "x86-64-v4": "AVX512"}


def main() -> None:
    """Run one command. What the user got wrong ends in one line and exit code 2, a training that failed in one line and 1, a signal in 128
    + its number. A reader of the output that has gone, such as `head`, ends it quietly; `train` and `md` go on without."""
    try:
        end_on_signals()
        guard_streams()
        try:
            _run()
        finally:
            if sys.stdout is not None:  # started with a closed standard output
                sys.stdout.flush()  # while Python ends, a failure could only be "Exception ignored"
    except BaseException:
        leave_after_signal()  # on the way out it may have become any exception
        raise


def _run() -> None:
    os.environ.setdefault(_STARTED, str(time.monotonic()))
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return
    if arguments[0] in ("-V", "--version") or arguments[1:] == ["--version"]:
        from mace_tp import __version__  # asked for here, since it takes longer to find than signals may go unheard

        print(f"mace-tp {__version__}")
        return
    command = arguments[0]
    if command not in COMMANDS:
        print(f"mace-tp: {command}: no such command; valid: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    _use_huge_pages()
    set_xla_flags()
    _use_compilation_cache()
    _import_later("scipy.signal")
    if command in _COMPILES_ANEW:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    try:
        importlib.import_module(f"mace_tp.cli.{command}").main(arguments[1:])
    except InputError as error:
        print(f"mace-tp {command}: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        print(f"mace-tp {command}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as error:
        sys.exit(getattr(error, "exit_code", 130))


def command_started() -> float:
    """time.monotonic() when the command began, before the process replaced itself; asked again, for a later job of a sweep, now."""
    return float(os.environ.pop(_STARTED, time.monotonic()))


def _usage() -> str:
    commands = "\n".join(f"  {name:12} {text}" for name, text in COMMANDS.items())
    return f"usage: mace-tp COMMAND ...   (mace-tp COMMAND --help, mace-tp --version)\n{commands}"


def _use_huge_pages() -> None:
    """Start the process anew with huge pages for malloc, where glibc and Linux offer them on demand.

    XLA's buffers on a CPU come from malloc, a hundred megabytes and more anew for every step. In pages of 4 kB that is
    34,000 page faults a step, in huge pages 190 (scripts/benchmark_step.py). glibc reads its tunables once, at the start of a process.
    (To keep the memory on one heap ends the faults altogether, but that heap's lock then makes a step half as slow again.)
    """
    offered = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if platform.libc_ver()[0] != "glibc" or "glibc.malloc.hugetlb" in tunables or not offered.exists():
        return
    if "[never]" in offered.read_text():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, "glibc.malloc.hugetlb=1"]))
    hold_signals()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "mace_tp", *sys.argv[1:]])


def set_xla_flags() -> None:
    """Have XLA compile with its older emitter of fused loops on a CPU, and for the instruction set that the kernel is compiled for.

    The newer emitter holds a compiler context for each of hundreds of kernels in work, and unrolls loops. `scripts/benchmark_step.py
    --light-compiler 0 1` prints the effect of the two options on compilation, memory and step. They are names of jaxlib 0.10.1; XLA
    ignores unknown ones. Flags must be there before XLA compiles anything.
    """
    _add_xla_flag("--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters,xla_cpu_disable_loop_unrolling")
    isa = _XLA_ISAS.get(os.environ.get("MACE_TP_TARGET", ""))
    if isa is not None:
        _add_xla_flag(f"--xla_cpu_max_isa={isa}")


def _add_xla_flag(flag: str) -> None:
    """Add a flag unless the user has set it."""
    given = os.environ.get("XLA_FLAGS", "").strip()
    # A value that is no flag is the path of a file of flags, which nothing can be added to.
    if flag.partition("=")[0] in given or (given and not given.startswith("-")):
        return
    os.environ["XLA_FLAGS"] = f"{flag} {given}".strip()


def _import_later(name: str) -> None:
    """Load a module when something in it is first used. e3nn_jax imports scipy.signal, for peaks on spheres; it takes longer than jax.

    (`importlib.util.LazyLoader` would load it at the first `import`, which looks at the module's `__spec__`.)
    """
    spec = importlib.util.find_spec(name)
    if spec is None or name in sys.modules:
        return

    def first_use(attribute: str) -> Any:
        if attribute.startswith("__"):  # who looks through all modules uses none
            raise AttributeError(attribute)
        if sys.modules.get(name) is module:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    module = importlib.util.module_from_spec(spec)
    module.__dict__["__getattr__"] = first_use
    sys.modules[name] = module


def _use_compilation_cache() -> None:
    """Keep compiled programs between runs; jax reads these variables when it is imported. Set by the user, they stay."""
    from mace_tp.runtime.cache import cache_directory, processor  # loads OpenSSL, which takes longer than signals may go unheard

    cache = cache_directory() / "xla" / processor()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    # XLA takes two of its own tuning flags for features that the processor lacks and warns at every load from the cache,
    # at its highest level. The folder's name holds the processor, so programs for another one are never loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
