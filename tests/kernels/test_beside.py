"""The kernel's parts may be compiled beside jax's work: nothing else changes, and whatever ends that leaves nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from compiler import needs_compiler

pytestmark = needs_compiler
ROOT = Path(__file__).parents[2]
# Compiles the gradient of a polynomial as a step is compiled; prints it, and the gradient that jax itself finds.
PROGRAM = """
import dataclasses, jax, logging, numpy as np, sys, jax.numpy as jnp
from mace_tp.runtime.compilation import counted_compilations
from mace_tp.tensor_products.compiled import kernel_beside
from mace_tp.kernels.evaluate import Problem, evaluate, evaluate_plainly
from mace_tp.kernels.polynomial import Builder, Operand, Term
from mace_tp.model.programs import CompiledStep

logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
builder = Builder([Operand(2)])
a, b = builder.inputs[0]
problem = Problem(builder.build([Operand(1)], [[builder.add([Term(1.0, (a, b)), Term(0.5, (a,))])]]), (3,))
x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 5)), jnp.float32)
batch = dataclasses.make_dataclass("Batch", ["num_nodes", "num_edges", "num_pairs", "num_graphs"], frozen=True)(3, 0, 0, 1)
jax.tree_util.register_static(type(batch))

def gradient(form):
    return lambda x, _: jax.grad(lambda x: jnp.sum(jnp.sin(form(problem, (x,), (), None)[0])))(x)

step = CompiledStep(gradient(evaluate), "the gradient")
def run():
    with counted_compilations() as clock, kernel_beside("auto", "float32"):
        found = step(x, batch)
    assert abs(clock.seconds - step.compile_seconds) < 0.1, (clock.seconds, step.compile_seconds)
    np.testing.assert_allclose(found, gradient(evaluate_plainly)(x, batch), rtol=1e-5)
    print(sum("ffi_call" in line for line in str(step._jitted.trace(x, batch).jaxpr).splitlines()))
"""


def _start(cache: Path, program: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM + textwrap.dedent(program)],
        env=os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _heed_interrupts() -> None:
    """As a process does that a terminal starts: a shell's background job, such as a test may be, ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _finished(process: subprocess.Popen) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def _compiler(folder: Path, script: str) -> str:
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec c++ --version\n{textwrap.dedent(script)}\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def _files(cache: Path) -> set[str]:
    return {path.suffix for path in (cache / "mace-tp" / "kernel").iterdir()}


def test_gradient_is_the_same_and_processes_may_start_at_once(tmp_path):
    for process in [_start(tmp_path, "run()") for _ in range(2)]:
        assert _finished(process)[0] == "2\n", "the value and the derivative are the kernel's"
    assert _files(tmp_path) == {".so"}


def test_compilers_are_at_work_at_the_same_time(tmp_path):
    """Each waits until there are two of them."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor, and one compiler at a time")
    script = f"""
        echo >> {tmp_path}/calls
        for i in $(seq 200); do [ $(wc -l < {tmp_path}/calls) -ge 2 ] && exec c++ "$@"; sleep 0.1; done
        echo "error: alone" >&2; exit 1"""
    out, err = _finished(_start(tmp_path / "cache", "run()", CXX=_compiler(tmp_path, script)))

    assert out == "2\n" and "alone" not in err


@pytest.mark.parametrize(("function", "left"), [("polynomial_", 0), ("i1 = in", 1)], ids=["every function", "the derivative of two"])
def test_what_cannot_be_compiled_is_told_once_and_traced_anew(function, left, tmp_path):
    script = f"""
        cat > {tmp_path}/source.$$
        grep -q '{function}' {tmp_path}/source.$$ && {{ echo "fatal error: no space left" >&2; exit 1; }}
        exec c++ "$@" < {tmp_path}/source.$$"""
    out, err = _finished(_start(tmp_path / "cache", "run()", CXX=_compiler(tmp_path, script)))

    assert out == f"{left}\n"
    assert err.count("no space left") == 1 and err.count("kernel: xla, which is slower") == 1


# A compiler that never ends, in a process of its own, like those of GCC.
_SLOW = """
    sleep 1000 &
    echo $! >> {pids}
    wait"""


def _sleepers(pids: Path, process: subprocess.Popen) -> list[int]:
    """Processes of the compilers, as soon as there is one for the kernel and one for the linear maps."""
    for _ in range(600):
        numbers = pids.read_text(encoding="utf-8").split() if pids.exists() else []
        if len(numbers) >= min(2, len(os.sched_getaffinity(0))):
            return list(map(int, numbers))
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no compiler was begun")


def _is_alive(number: int) -> bool:
    status = Path(f"/proc/{number}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def _require_clean(cache: Path, numbers: list[int]) -> None:
    until = time.monotonic() + 5
    while any(map(_is_alive, numbers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_is_alive, numbers)), "a compiler is left at work"
    assert not list((cache / "mace-tp" / "kernel").iterdir()), "half a file is left"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to look for processes")
def test_after_an_interrupt_no_compiler_is_at_work_and_the_next_call_tries_again(tmp_path):
    cache, pids = tmp_path / "cache", tmp_path / "pids"
    program = """
        try:
            run()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.stdin.readline()
        run()"""
    script = f'[ -e {tmp_path}/works ] && exec c++ "$@"' + _SLOW.format(pids=pids)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM + textwrap.dedent(program)],
        env=os.environ
        | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "CXX": _compiler(tmp_path, script)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )
    numbers = _sleepers(pids, process)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n", process.communicate()
    _require_clean(cache, numbers)

    (tmp_path / "works").touch()
    out, err = process.communicate("go on\n", timeout=300)
    assert (process.returncode, out) == (0, "2\n"), err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to look for processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_a_signal_ends_leaves_no_compiler_at_work(number, tmp_path):
    cache, pids = tmp_path / "cache", tmp_path / "pids"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "mace_tp", "train", f"run_dir={tmp_path}/run"],
        env=os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), "CXX": _compiler(tmp_path, _SLOW.format(pids=pids))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )
    numbers = _sleepers(pids, process)
    process.send_signal(number)
    process.communicate(timeout=60)

    assert process.returncode == 128 + number
    _require_clean(cache, numbers)


@pytest.mark.slow
def test_a_function_that_cannot_be_made_is_missed_by_no_other_thread(tmp_path):
    """Two threads trace it; the second one is still at it when the first one has heard of the failure."""
    script = """
        case "$*" in
            *--version*|*MACE_TP_TYPE*|*-dM*) exec c++ "$@";;
        esac
        sleep 1; echo "error: failed" >&2; exit 1"""
    program = """
        import threading, time
        from mace_tp.kernels.build import kernel_version

        kernel_version("float32")
        has_failed = threading.Event()
        def slowly(x, _):
            product = evaluate(problem, (x,), (), None)[0]
            has_failed.wait(60)
            return product

        def first():
            CompiledStep(lambda x, _: evaluate(problem, (x,), (), None)[0], "the first")(x, batch)
            has_failed.set()

        thread = threading.Thread(target=first)
        thread.start()
        time.sleep(0.2)
        found = CompiledStep(slowly, "the second")(x, batch)
        thread.join()
        np.testing.assert_allclose(found, evaluate_plainly(problem, (x,), (), None)[0], rtol=1e-5)
        print("same")
    """
    out, err = _finished(_start(tmp_path / "cache", program, CXX=_compiler(tmp_path, script)))

    assert out == "same\n" and err.count("error: failed") == 1
