"""A pytest plugin: the kernel is compiled for another machine, which an emulator plays, and is called there.

The program compiles and hands over libraries as ever; only where they would be loaded and called a process of the emulator does that. The
environment names the emulator (EMULATOR) and the program that it runs (EMULATED, made of emulated.cc); `CXX` is the cross compiler.
"""

import ctypes
import dataclasses
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

_DTYPES = {"bool": 1, "int32": 4, "int64": 5, "float32": 11, "float64": 12}  # XLA_FFI_DataType
_ARRAY, _SCALAR, _STRING = 1, 3, 4  # XLA_FFI_AttrType
_load, _cast, _capsule, _register = ctypes.CDLL, ctypes.cast, jax.ffi.pycapsule, jax.ffi.register_ffi_target
_handlers: dict[str, "_Symbol"] = {}
_functions: dict[str, "_Symbol"] = {}


@dataclasses.dataclass(frozen=True)
class _Symbol:
    library: str
    name: str


class _Library:
    """Stands for a library that this machine cannot load."""

    def __init__(self, path: str) -> None:
        self._name = path

    def __getitem__(self, name: str) -> _Symbol:
        return _Symbol(self._name, name)

    def __getattr__(self, name: str) -> _Symbol:
        return self[name]

    def add_polynomial(self, name: bytes, function: _Symbol) -> None:
        _functions[name.decode()] = function


def pytest_configure() -> None:
    ctypes.CDLL = lambda path, *rest, **more: _Library(path) if Path(str(path)).name.startswith("mace_tp_") else _load(path, *rest, **more)
    ctypes.cast = lambda value, kind: value if isinstance(value, _Symbol) else _cast(value, kind)
    jax.ffi.pycapsule = lambda symbol: symbol if isinstance(symbol, _Symbol) else _capsule(symbol)
    jax.ffi.register_ffi_target = _register_target
    jax.ffi.ffi_call = _ffi_call


def _register_target(name: str, symbol: Any, **more: Any) -> None:
    if isinstance(symbol, _Symbol):
        _handlers[name] = symbol
    else:
        _register(name, symbol, **more)


def _ffi_call(name: str, shapes: Any, vmap_method: str) -> Any:
    def call(*arguments: jax.Array, **attributes: Any) -> Any:
        return jax.pure_callback(lambda *values: _call(name, shapes, values, attributes), shapes, *arguments, vmap_method=vmap_method)

    return call


def _call(name: str, shapes: Any, values: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
    """Results of a handler, computed by the emulator."""
    results, tree = jax.tree.flatten(shapes)
    arrays = [np.ascontiguousarray(value).reshape(np.shape(value)) for value in values]
    text = _numbers(len(arrays)) + b"".join(_array(array) + array.tobytes() for array in arrays)
    text += _numbers(len(results)) + b"".join(map(_array, results))
    text += _numbers(len(attributes)) + b"".join(_attribute(key, attributes[key]) for key in sorted(attributes))
    handler = _handlers[name]
    used = [_functions[attributes["function"]]] if "function" in attributes else []
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "in"), Path(folder, "out")
        given.write_bytes(text)
        symbols = [part for symbol in used for part in (symbol.library, symbol.name)]
        command = [*shlex.split(os.environ["EMULATOR"]), os.environ["EMULATED"], handler.library, handler.name, given, found, *symbols]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            raise RuntimeError(process.stderr)
        flat = np.frombuffer(found.read_bytes(), np.uint8)
    ends = np.cumsum([_num_bytes(result) for result in results])[:-1]
    parts = [part.view(result.dtype).reshape(result.shape) for part, result in zip(np.split(flat, ends), results, strict=True)]
    return tree.unflatten(parts)


def _numbers(*values: int) -> bytes:
    return np.array(values, np.int64).tobytes()


def _num_bytes(array: Any) -> int:
    return int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize


def _array(array: Any) -> bytes:
    return _numbers(_DTYPES[np.dtype(array.dtype).name], len(array.shape), *array.shape, _num_bytes(array))


def _attribute(key: str, value: Any) -> bytes:
    head = _numbers(len(key)) + key.encode()
    if isinstance(value, str):
        return head + _numbers(_STRING, 0, 0, len(value)) + value.encode()
    array = np.asarray(value)
    kind = _ARRAY if array.ndim else _SCALAR
    return head + _numbers(kind, _DTYPES[array.dtype.name], array.size, array.nbytes) + array.tobytes()
