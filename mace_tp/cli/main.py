"""`mace-tp COMMAND`: prepares the process and runs the module of the command."""

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
    "benchmark": "time of tensor products: mace-tp benchmark --settings MIMO interaction product_basis",
    "expressivity": "couplings and freedom of tensor products: mace-tp expressivity --l-max 1 2 3",
    "md": "molecular dynamics: mace-tp md MODEL STRUCTURE --ensemble nve",
    "export": "a model as one compiled function: mace-tp export MODEL OUT",
    "convert": "models of mace-torch, both ways: mace-tp convert mace-torch FILE.model OUT --trust",
    "inspect": "contents of files of structures, and what looks wrong: mace-tp inspect FILE...",
    "completion": "a script that completes all this in the shell: mace-tp completion bash",
}
_COMPILES_ANEW = ("benchmark",)  # commands that report compile times
_STARTED = "MACE_TP_STARTED"
# XLA's names of instruction sets, by the compiler's names.
_XLA_ISAS = {"x86-64-v2": "SSE4_2", "x86-64-v3": "AVX2", "x86-64-v4": "AVX512"}


def main() -> None:
    """Run one command.

    Exit codes: 2 and one line for a mistake of the user, 1 and one line for a training that failed, 128 + the number of a signal. If the
    reader of the output has gone, such as `head`, the command ends quietly; `train` and `md` go on without output.
    """
    try:
        end_on_signals()
        guard_streams()
        try:
            _run()
        finally:
            if sys.stdout is not None:  # started with a closed standard output
                sys.stdout.flush()  # here, because Python would print a later failure as "Exception ignored"
    except BaseException:
        leave_after_signal()  # first: libraries may have turned the exception of a signal into any other
        raise


def _run() -> None:
    os.environ.setdefault(_STARTED, str(time.monotonic()))
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return
    if arguments[0] in ("-V", "--version") or arguments[1:] == ["--version"]:
        from mace_tp import __version__  # here, because finding the version takes longer than signals may go unheard

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
    """Return time.monotonic() at the start of the command, before the process replaced itself; later calls (jobs of a sweep) return now."""
    return float(os.environ.pop(_STARTED, time.monotonic()))


def _usage() -> str:
    commands = "\n".join(f"  {name:12} {text}" for name, text in COMMANDS.items())
    return f"usage: mace-tp COMMAND ...   (mace-tp COMMAND --help, mace-tp --version)\n{commands}"


def _use_huge_pages() -> None:
    """Restart the process with huge pages for malloc, if glibc and Linux offer them.

    On a CPU XLA allocates its buffers with malloc, more than a hundred megabytes in every step. With pages of 4 kB that is 34,000 page
    faults per step, with huge pages 190 (benchmarks/benchmark_step.py). glibc reads its tunables only at the start of a process.
    (Keeping all memory on one heap avoids the faults altogether, but then the lock of that heap makes a step 1.5 times as long.)
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
    """Make XLA use its older emitter of fused loops on a CPU, and the instruction set of the kernel.

    The newer emitter keeps a compiler context for each of hundreds of kernels and unrolls loops. `benchmarks/benchmark_step.py
    --light-compiler 0 1` prints the effect of the two options on compilation, memory and step. The options are those of jaxlib 0.10.1; XLA
    ignores unknown ones. The flags must be set before XLA compiles anything.
    """
    _add_xla_flag("--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters,xla_cpu_disable_loop_unrolling")
    isa = _XLA_ISAS.get(os.environ.get("MACE_TP_TARGET", ""))
    if isa is not None:
        _add_xla_flag(f"--xla_cpu_max_isa={isa}")


def _add_xla_flag(flag: str) -> None:
    """Add a flag unless the user has set it."""
    given = os.environ.get("XLA_FLAGS", "").strip()
    # A value without a leading dash is the path of a file of flags, to which nothing can be added.
    if flag.partition("=")[0] in given or (given and not given.startswith("-")):
        return
    os.environ["XLA_FLAGS"] = f"{flag} {given}".strip()


def _import_later(name: str) -> None:
    """Delay the import of a module until something in it is used. e3nn_jax imports scipy.signal, which takes longer to load than jax.

    (`importlib.util.LazyLoader` would load it at the first `import`, which looks at the module's `__spec__`.)
    """
    spec = importlib.util.find_spec(name)
    if spec is None or name in sys.modules:
        return

    def first_use(attribute: str) -> Any:
        if attribute.startswith("__"):  # asked for by code that looks through all modules, without using this one
            raise AttributeError(attribute)
        if sys.modules.get(name) is module:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    module = importlib.util.module_from_spec(spec)
    module.__dict__["__getattr__"] = first_use
    sys.modules[name] = module


def _use_compilation_cache() -> None:
    """Keep compiled programs between runs. jax reads these environment variables at import; values that the user has set stay."""
    # Imported here, because it loads OpenSSL, which takes longer than signals may go unheard.
    from mace_tp.runtime.cache import cache_directory, processor

    cache = cache_directory() / "xla" / processor()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    # XLA mistakes two of its own tuning flags for missing features of the processor and warns at every load from the cache, at its highest
    # level. The warning is never right, because the folder's name contains the processor.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
