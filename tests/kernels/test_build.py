"""The kernel is built once, by whoever comes first; where it cannot be, the reason is said in one line."""

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from compiler import needs_compiler

pytestmark = needs_compiler
ROOT = Path(__file__).parents[2]
# Evaluates a product of two numbers, and prints what evaluates it and the product.
PROGRAM = """
import jax.numpy as jnp
from mace_tp.tensor_products.compiled import describe_kernel
from mace_tp.kernels.evaluate import Problem, evaluate
from mace_tp.kernels.polynomial import Builder, Operand, Term

builder = Builder([Operand(2)])
product = builder.add([Term(1.0, tuple(builder.inputs[0]))])
problem = Problem(builder.build([Operand(1)], [[product]]), (1,))
print(describe_kernel("auto"))
print(evaluate(problem, (jnp.asarray([[[3.0], [5.0]]]),), (), None)[0].item())
"""
DESCRIBE = 'from mace_tp.tensor_products.compiled import describe_kernel; print(describe_kernel("auto"))'


def _start(cache: Path, program: str = PROGRAM, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        cwd=cache.parent,  # a compiler that is a script may write files of any name
        env=os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _lines(process: subprocess.Popen) -> list[str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.splitlines()


def _compiler(folder: Path, script: str) -> str:
    """A compiler that is a shell script."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.slow
def test_processes_that_start_at_once_build_it_and_later_ones_use_it(tmp_path):
    for process in [_start(tmp_path) for _ in range(2)]:
        assert _lines(process)[1] == "15.0"
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "mace-tp" / "kernel").iterdir()}
    assert {path.suffix for path in files} == {".so"}, "nothing half built is left"

    assert _lines(_start(tmp_path))[1] == "15.0"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "mace-tp" / "kernel").iterdir()} == files


# Each answers to --version; what it does otherwise is wrong.
_BROKEN = {
    "fails: error: no such flag": '[ "$1" = --version ] && echo "c 1.0" && exit 0; echo "error: no such flag" >&2; exit 1',
    "cannot be loaded": '[ "$1" = --version ] && echo "c 1.0" && exit 0; for last; do :; done; echo "no library" > "$last"',
}


@pytest.mark.parametrize(("reason", "script"), _BROKEN.items(), ids=["fails", "makes no library"])
def test_a_compiler_that_does_not_work_is_told(reason, script, tmp_path):
    lines = _lines(_start(tmp_path, DESCRIBE, CXX=_compiler(tmp_path, script)))

    assert len(lines) == 1 and lines[0].startswith("xla, which is slower: ") and reason in lines[0]


def test_no_compiler_and_no_place_for_the_cache_are_told(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")

    [line] = _lines(_start(tmp_path, DESCRIBE, CXX="nowhere"))
    assert line.startswith("xla, which is slower: no C++ compiler is found (nowhere); install one (Debian and Ubuntu: g++, ")
    assert "No closing quotation" in _lines(_start(tmp_path, DESCRIBE, CXX='g++ "'))[0]
    assert "the folder for compiled kernels cannot be used" in _lines(_start(tmp_path / "file", DESCRIBE))[0]


def test_instruction_sets_that_cannot_be_used_are_told(tmp_path):
    [line] = _lines(_start(tmp_path, DESCRIBE, MACE_TP_TARGET="nonsense"))
    assert line.startswith("xla, which is slower: MACE_TP_TARGET=nonsense: ") and "bad value" in line or "error" in line
    script = """
        case "$*" in
            --version) echo "c 1.0";;
            *-march=native*) echo "#define __AVX__ 1";;
            *) printf "#define __AVX__ 1\n#define __AVX2__ 1\n";;
        esac"""
    [line] = _lines(_start(tmp_path, DESCRIBE, MACE_TP_TARGET="x86-64-v3", CXX=_compiler(tmp_path, script)))
    assert line == "xla, which is slower: MACE_TP_TARGET=x86-64-v3: this processor lacks AVX2"


def test_time_of_the_compiler_is_counted_and_told(tmp_path):
    script = '[ "$1" = --version ] && echo "c 1.0" && exit 0; sleep 0.5; exit 1'
    program = """
import logging, sys
from mace_tp.runtime.compilation import counted_compilations
from mace_tp.tensor_products.compiled import describe_kernel

logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
with counted_compilations() as clock:
    describe_kernel("auto")
print(clock.seconds)
"""
    line, seconds = _lines(_start(tmp_path / "cache", program, CXX=_compiler(tmp_path, script)))

    assert line == "compiling the kernel for this processor; later runs find it in the cache"
    assert float(seconds) >= 0.5


def test_what_cannot_be_built_is_tried_once(tmp_path):
    script = f'[ "$1" = --version ] && echo "c 1.0" && exit 0; echo >> {tmp_path}/calls; exit 1'
    program = (
        DESCRIBE
        + "; import jax.numpy as jnp; from mace_tp.tensor_products.compiled import kernel_runs, mix; from mace_tp.kernels.linear import *\n"
    )
    program += textwrap.dedent("""
        channel_map = ChannelMap((IrrepMap(0, 1, 1, 0, 1.0),), 1, 1)
        for _ in range(3):
            print(describe_kernel("auto"))
            mix(channel_map, jnp.ones((1, 2, 3)), (jnp.ones((1, 1, 3, 3)),), jnp.zeros(2, jnp.int32))
    """)
    _lines(_start(tmp_path / "cache", program, CXX=_compiler(tmp_path, script)))

    assert len((tmp_path / "calls").read_text(encoding="utf-8").splitlines()) == 2, "one for each of two source files"


def test_a_derivative_that_cannot_be_compiled_is_evaluated_by_jax(tmp_path):
    """The compiler fails from its third source on: the kernel and the value are made, the derivative is not."""
    script = f'''
        [ "$1" = --version ] && exec c++ --version
        echo >> {tmp_path}/calls
        [ $(wc -l < {tmp_path}/calls) -le 2 ] || {{ echo "fatal error: no space left" >&2; exit 1; }}
        exec c++ "$@"'''
    program = PROGRAM + textwrap.dedent("""
        import jax
        product = lambda x: evaluate(problem, (x,), (), None)[0].sum()
        print(jax.grad(product)(jnp.asarray([[[3.0], [5.0]]])).ravel().tolist())
    """)
    process = _start(tmp_path / "cache", program, CXX=_compiler(tmp_path, script))
    out, err = process.communicate(timeout=300)

    assert out.splitlines()[1:] == ["15.0", "[5.0, 3.0]"], err
    assert err.count("fatal error: no space left") == 1


@pytest.mark.slow
def test_a_damaged_library_is_made_anew(tmp_path):
    assert _lines(_start(tmp_path))[1] == "15.0"
    for path in (tmp_path / "mace-tp" / "kernel").iterdir():
        path.write_bytes(b"damaged")

    assert _lines(_start(tmp_path))[1] == "15.0"


def test_many_threads_give_the_same_numbers(tmp_path):
    """More of them than blocks of channels, so that they divide the items, too."""
    program = textwrap.dedent("""
        import jax, numpy as np, jax.numpy as jnp
        jax.config.update("jax_enable_x64", True)
        from mace_tp.kernels.evaluate import Problem, evaluate, evaluate_plainly
        from mace_tp.kernels.polynomial import Builder, Operand, Term

        builder = Builder([Operand(2, index=0), Operand(1, index=1, values_lead=True)])
        (a, b), (c,) = builder.inputs
        sums = builder.add([Term(1.0, (a, c)), Term(2.0, (b,))])
        problem = Problem(builder.build([Operand(1, index=1), Operand(1, index=0)], [[sums], [sums]]), (9, 5))
        rng = np.random.default_rng(0)
        x, y = jnp.asarray(rng.normal(size=(5, 2, 40))), jnp.asarray(rng.normal(size=(1, 9, 40)))
        indices = jnp.asarray(rng.integers(0, 5, 1000), jnp.int32), jnp.asarray(np.sort(rng.integers(0, 9, 1000)), jnp.int32)
        form = lambda f: jax.jit(jax.grad(lambda *v: sum(jnp.sum(jnp.sin(o)) for o in f(problem, v, indices, None)), (0, 1)))(x, y)
        first, plain = form(evaluate), form(evaluate_plainly)
        for _ in range(20):
            jax.tree.map(np.testing.assert_array_equal, form(evaluate), first)
        jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, atol=1e-9), first, plain)
        print("same")
    """)
    assert _lines(_start(tmp_path, program, NPROC="8"))[-1] == "same"


@pytest.mark.slow
def test_two_devices_compute_the_same(tmp_path):
    program = PROGRAM + textwrap.dedent("""
        import jax
        import numpy as np
        values = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 2, 5)), jnp.float32)
        several = Problem(problem.polynomial, (8,))
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(evaluate(several, (x,), (), None)[0])))
        np.testing.assert_array_equal(jax.pmap(gradient)(values), jnp.stack([gradient(x) for x in values]))
        print(len(jax.devices()))
    """)
    assert _lines(_start(tmp_path, program, XLA_FLAGS="--xla_force_host_platform_device_count=2"))[-1] == "2"


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path):
    """Tests of the kernel's values once more, with a build that checks every address and every operation."""
    tests = "equals or count or no_items or several or derivatives"
    files = [str(Path(__file__).with_name(name)) for name in ("test_kernel_values.py", "test_linear.py")]
    libraries = [
        subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    process = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-n",
            "0",
            "-k",
            tests,
            *files,
        ],
        cwd=ROOT,
        env=os.environ
        | {
            "XDG_CACHE_HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",  # Python itself leaks
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
            "MACE_TP_CXXFLAGS": "-fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    assert " passed" in process.stdout
