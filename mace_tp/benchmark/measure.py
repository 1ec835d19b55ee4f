"""Measures every product in every setting, degree and derivative; a row of numbers for each."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mace_tp.benchmark.cases import Case, Sizes, make_case
from mace_tp.benchmark.derivatives import DERIVATIVES
from mace_tp.benchmark.timing import Compiled, compile_program, time_in_turn
from mace_tp.errors import InputError
from mace_tp.tensor_products.base import TensorProduct


@dataclasses.dataclass(frozen=True)
class Row:
    """One product in one setting, at one degree and derivative. If the product cannot do it, only `note` is set."""

    setting: str
    l_max: int
    derivative: str  # `value`, `forces` or `training`
    product: str
    note: str = ""  # why the product cannot do it; all that follows is then unset
    irreps: str = ""
    num_entries: int = 0  # pairs of features; at a site edges or nodes, times channels
    num_paths: int = 0
    dof: int = 0
    median_seconds: float = math.nan
    quartiles_seconds: tuple[float, float] = (math.nan, math.nan)
    min_seconds: float = math.nan
    repeats: int = 0
    compile_seconds: float = math.nan
    flops: int | None = None  # in the polynomials that the compiled kernel evaluates; None if XLA evaluates all
    xla_flops: float = math.nan  # all operations: XLA's count plus `flops`
    xla_bytes: float = math.nan
    moved_bytes: int = 0  # arguments and outputs of the program, which are read and written at least once
    memory_bytes: int = 0  # arguments, outputs and temporary arrays of the program


def measure(
    settings: Sequence[str],
    products: Mapping[str, TensorProduct],
    degrees: Sequence[int],
    derivatives: Sequence[str],
    sizes: Sizes,
    repeats: int,
) -> Iterator[list[Row]]:
    """Yield the rows of all products, for one setting, degree and derivative after another. The products of a list are timed in turn."""
    for setting in settings:
        for l_max in degrees:
            cases = {name: _case(setting, product, l_max, sizes) for name, product in products.items()}
            for derivative in derivatives:
                yield _rows((setting, l_max, derivative), cases, repeats)


def _case(setting: str, product: TensorProduct, l_max: int, sizes: Sizes) -> Case | InputError:
    try:
        return make_case(setting, product, l_max, sizes)
    except InputError as error:
        return error


def _rows(key: tuple[str, int, str], cases: Mapping[str, Case | InputError], repeats: int) -> list[Row]:
    program = DERIVATIVES[key[2]]
    compiled = {name: compile_program(*program(case.operation)) for name, case in cases.items() if isinstance(case, Case)}
    seconds = time_in_turn({name: programs.call for name, programs in compiled.items()}, repeats)
    rows = []
    for name, case in cases.items():
        if isinstance(case, InputError):
            rows.append(Row(*key, name, note=str(case)))
        else:
            rows.append(_row(key, name, case, compiled[name], seconds[name]))
    return rows


def _row(key: tuple[str, int, str], name: str, case: Case, compiled: Compiled, seconds: np.ndarray) -> Row:
    low, high = np.quantile(seconds, [0.25, 0.75])
    return Row(
        *key,
        name,
        irreps=case.irreps,
        num_entries=case.num_entries,
        num_paths=case.num_paths,
        dof=case.dof,
        median_seconds=float(np.median(seconds)),
        quartiles_seconds=(float(low), float(high)),
        min_seconds=float(seconds.min()),
        repeats=len(seconds),
        compile_seconds=compiled.compile_seconds,
        flops=compiled.kernel_flops or None,
        xla_flops=compiled.flops,
        xla_bytes=compiled.bytes,
        moved_bytes=compiled.moved,
        memory_bytes=compiled.memory,
    )
