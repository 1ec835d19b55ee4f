"""The kernel computes the same with every instruction set that this machine executes, and with NEON where that can be emulated."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from compiler import needs_compiler

from mace_tp.kernels.build import function_name, target_name
from mace_tp.kernels.compiler import TARGET, NoKernel, instruction_set, target_flags
from mace_tp.kernels.polynomial import Builder, Operand, Term
from mace_tp.runtime.cache import cache_directory
from mace_tp.tensor_products.compiled import describe_kernel

pytestmark = needs_compiler
ROOT = Path(__file__).parents[2]
# Vectors of a target, and the registers that hold them; a processor of another kind has its own set only.
TARGETS = {"x86-64-v2": "SSE2", "x86-64-v3": "AVX2", "x86-64-v4": "AVX-512"} if platform.machine() == "x86_64" else {"native": ""}
_REGISTERS = {"SSE2": "xmm", "AVX2": "ymm", "AVX-512": "zmm"}
_WIDER = {"SSE2": ("ymm", "zmm"), "AVX2": ("zmm",), "AVX-512": ()}
_CROSS, _EMULATOR, _PACKAGES = "aarch64-linux-gnu-g++", "qemu-aarch64", "Debian: g++-aarch64-linux-gnu, qemu-user"
_HERE = f"tests/kernels/{Path(__file__).name}"
# Tests of other files that run in a process of their own for each target.
_QUICK = [
    f"{_HERE}::test_libraries_have_the_registers_of_the_instruction_set",
    "tests/kernels/test_kernel_values.py::test_first_and_second_derivatives_equal_those_of_the_plain_form[3]",
    "tests/kernels/test_linear.py::test_first_and_second_derivatives_equal_those_of_the_plain_form[21-37-3-float32]",
]
_ALL = ["tests/kernels/test_kernel_values.py", "tests/kernels/test_linear.py", "tests/tensor_products/test_compiled.py"]
_VALUES = "equals or equal_those or several or float32_is or in_float32 or any_number_of_channels"  # among them


def _run(folder: Path, *arguments: str, **environment: str) -> None:
    """Run tests in another process, all of which must pass, and none by XLA's form instead of the kernel."""
    log = folder / "log"
    options = ["-q", "-x", "-p", "no:cacheprovider", "-n", "0", "-m", "", f"--log-file={log}", "--log-file-level=WARNING"]
    process = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    summary = process.stdout.strip().splitlines()[-1]
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    assert re.match(r"\d+ passed", summary) and "skipped" not in summary, process.stdout
    assert "kernel: xla" not in log.read_text(encoding="utf-8")


def _code(objdump: str, library: Path) -> str:
    """Its instructions."""
    return subprocess.run([objdump, "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True).stdout


def _require(target: str, monkeypatch) -> None:
    """Skip where the program says that it cannot compile for a target."""
    monkeypatch.setenv(TARGET, target)
    try:
        target_flags.__wrapped__()
    except NoKernel as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("target", TARGETS)
def test_kernel_runs_with_every_instruction_set(target, tmp_path, monkeypatch):
    _require(target, monkeypatch)

    _run(tmp_path, *_QUICK, MACE_TP_TARGET=target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_values_and_derivatives_are_the_same_with_every_instruction_set(target, tmp_path, monkeypatch):
    _require(target, monkeypatch)

    _run(tmp_path, *_ALL, "-k", _VALUES, MACE_TP_TARGET=target)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is missing (Debian: clang)")
def test_values_and_derivatives_are_the_same_with_clang(tmp_path):
    _run(tmp_path, *_QUICK, *_ALL[-1:], "-k", "registers or equal_those or float32_is or in_float32", CXX="clang++")


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, (_CROSS, _EMULATOR))), reason=f"{_CROSS} or {_EMULATOR} is missing ({_PACKAGES})")
def test_values_and_derivatives_are_the_same_with_neon(tmp_path):
    """The kernel for ARM, compiled by a cross compiler with the flags of the program, answers XLA's calls in an emulator."""
    caller, compiler = tmp_path / "caller", tmp_path / "compiler"
    source, headers = ROOT / "tests" / "support" / "emulated.cc", jax.ffi.include_dir()
    subprocess.run([_CROSS, "-std=c++17", "-O1", "-isystem", headers, source, "-ldl", "-o", caller], check=True)
    # This machine's own instruction set is that of the emulated one.
    compiler.write_text(f'#!/bin/bash\nexec {_CROSS} "${{@/-march=native/-march=armv8-a}}"\n', encoding="utf-8")
    compiler.chmod(0o755)
    environment = {"CXX": str(compiler), "XDG_CACHE_HOME": str(tmp_path), "EMULATOR": f"{_EMULATOR} -L /usr/aarch64-linux-gnu"}

    _run(tmp_path, "-p", "emulated", *_ALL, "-k", _VALUES, **environment, EMULATED=str(caller), MACE_TP_TARGET="")

    codes = [_code(f"{_CROSS.removesuffix('g++')}objdump", library) for library in (tmp_path / "mace-tp" / "kernel").iterdir()]
    # One instruction of a product and a sum, on vectors; a few libraries have nothing to multiply.
    assert sum("fmla\tv" in code for code in codes) > len(codes) / 2


def test_libraries_have_the_registers_of_the_instruction_set(tmp_path, monkeypatch):
    """With the target of this process: the program that calls functions, the linear maps, and a function."""
    vectors = instruction_set()
    assert vectors == TARGETS.get(os.environ.get(TARGET), vectors)
    assert describe_kernel("auto").startswith(f"compiled for {vectors}, ")
    names = [target_name(handler, "float32").removesuffix(f"_{handler}_float32") for handler in ("evaluate", "linear")]
    libraries = [cache_directory() / "kernel" / f"{name}.so" for name in names]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # only the function is compiled again
    builder = Builder([Operand(2)])
    product = builder.add([Term(1.0, tuple(builder.inputs[0]))])
    function_name(builder.build([Operand(1)], [[product]]), "float32", 12345)
    libraries += (cache_directory() / "kernel").iterdir()

    assert len(libraries) == 3
    if vectors not in _REGISTERS or shutil.which("objdump") is None:
        return
    for library in libraries:
        code = _code("objdump", library)
        found = {register for register in _REGISTERS.values() if f"%{register}" in code}
        assert _REGISTERS[vectors] in found and not found.intersection(_WIDER[vectors]), library
