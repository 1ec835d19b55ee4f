"""Evaluates sparse polynomials for many items: with the compiled kernel, or plainly with operations of jax."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Bool, Float, Int32

from mace_tp.graph import gather, segment_sum
from mace_tp.kernels.build import function_name, target_name, tell_once
from mace_tp.kernels.compiler import NoKernel
from mace_tp.kernels.polynomial import Operand, Polynomial

Arrays = tuple[jax.Array, ...]
Operands = Sequence[Float[Array | np.ndarray, "..."]]
# The names of these sizes begin with _, because `_require_fitting` checks them.
Indices = Sequence[Int32[Array | np.ndarray, " _items"]]
Mask = Bool[Array | np.ndarray, " _items"] | None


@dataclasses.dataclass(frozen=True)
class Problem:
    """A polynomial and the number of rows of each output."""

    polynomial: Polynomial
    rows: tuple[int, ...]


def evaluate(problem: Problem, operands: Operands, indices: Indices, mask: Mask) -> tuple[Float[Array, "..."], ...]:
    """Evaluate a polynomial with the kernel. Reverse derivatives of any order use the kernel too; forward mode is not defined.

    If a polynomial cannot be compiled (a derivative may be too large for the compiler), jax evaluates it plainly.

    Args:
        problem: the polynomial and the rows of its outputs.
        operands: one array per input with the shape of `Operand.shape`, all float32 or all float64.
        indices: the index arrays of the operands.
        mask: True for items that count; the outputs of the rest are zero. None: all items count.

    Returns:
        One array per output.

    Raises:
        ValueError: the arrays do not fit the polynomial or each other.
    """
    return _evaluate(problem, _arrays(operands), _arrays(indices), None if mask is None else jnp.asarray(mask))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _evaluate(problem: Problem, operands: tuple[Any, ...], indices: tuple[Any, ...], mask: Any) -> Any:
    polynomial, dtype = problem.polynomial, operands[0].dtype
    items = _require_fitting(problem, operands, indices, mask)
    try:
        name = function_name(polynomial, dtype.name, _channels(polynomial, operands))
    except NoKernel as error:
        tell_once(str(error))
        return evaluate_plainly(problem, _arrays(operands), _arrays(indices), None if mask is None else jnp.asarray(mask))
    shapes = _output_shapes(problem, operands)
    call = jax.ffi.ffi_call(target_name("evaluate", dtype.name), shapes, vmap_method="sequential")
    masks = () if mask is None else (mask,)
    return tuple(
        call(
            *operands,
            *indices,
            *masks,
            function=name,
            operands=_operand_table(polynomial),
            num_inputs=np.int32(len(operands)),
            num_indices=np.int32(len(indices)),
            flops=np.int64(polynomial.flops() * items * _channels(polynomial, operands)),
        )
    )


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
    """Positions of the operands whose derivatives are wanted."""

    positions: tuple[int, ...]


def _forward(problem: Problem, operands: Any, indices: Any, mask: Any) -> tuple[Arrays, tuple]:
    wanted = _Wanted(tuple(i for i, operand in enumerate(operands) if operand.perturbed))
    values = jax.tree.map(lambda leaf: leaf.value, (operands, indices, mask), is_leaf=lambda leaf: isinstance(leaf, CustomVJPPrimal))
    return _evaluate(problem, *values), (*values, wanted)


def _backward(problem: Problem, residuals: tuple, cotangents: Sequence[Any]) -> tuple:
    operands, indices, mask, wanted = residuals
    given = tuple(i for i, cotangent in enumerate(cotangents) if not isinstance(cotangent, SymbolicZero))
    gradients: list[jax.Array | None] = [None] * len(operands)
    if given and wanted.positions:
        polynomial = problem.polynomial.derivative(given, wanted.positions)
        rows = tuple(polynomial.outputs[k].num_rows(operands[i].shape) for k, i in enumerate(wanted.positions))
        found: Any = _evaluate(Problem(polynomial, rows), (*operands, *(cotangents[i] for i in given)), indices, mask)
        for i, gradient in zip(wanted.positions, found, strict=True):
            gradients[i] = gradient
    return tuple(gradients), (None,) * len(indices), None


_evaluate.defvjp(_forward, _backward, symbolic_zeros=True)


def _arrays(values: Sequence[Any]) -> Arrays:
    return tuple(map(jnp.asarray, values))


def _require_fitting(problem: Problem, operands: Sequence[Any], indices: Sequence[Any], mask: Any) -> int:
    """Check the shapes of all arrays and return the number of items."""
    polynomial, channels = problem.polynomial, _channels(problem.polynomial, operands)
    own = [o.num_rows(a.shape) for o, a in zip(polynomial.inputs, operands, strict=True) if o.index is None]
    own += [rows for o, rows in zip(polynomial.outputs, problem.rows, strict=True) if o.index is None]
    counts = {*own, *(len(index) for index in indices), *([] if mask is None else [len(mask)])}
    if len(counts) != 1:
        raise ValueError(f"operands, indices and mask have different numbers of items, {sorted(counts)}")
    for operand, array in zip(polynomial.inputs, operands, strict=True):
        expected = operand.shape(operand.num_rows(array.shape), channels)
        if array.shape != expected or array.dtype != operands[0].dtype:
            raise ValueError(f"an operand is {array.dtype}{list(array.shape)}, but must be {operands[0].dtype}{list(expected)}")
    return counts.pop()


def _output_shapes(problem: Problem, operands: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    channels = _channels(problem.polynomial, operands)
    pairs = zip(problem.polynomial.outputs, problem.rows, strict=True)
    return [jax.ShapeDtypeStruct(operand.shape(rows, channels), operands[0].dtype) for operand, rows in pairs]


def _channels(polynomial: Polynomial, operands: Sequence[Any]) -> int:
    return next(array.shape[2] for operand, array in zip(polynomial.inputs, operands, strict=True) if not operand.is_scalar)


def _operand_table(polynomial: Polynomial) -> np.ndarray:
    """Return the table of operands for `kernel.cc`; a row is size, index or -1, is_scalar, values_lead."""
    operands = (*polynomial.inputs, *polynomial.outputs)
    rows = [(o.size, -1 if o.index is None else o.index, o.is_scalar, o.values_lead) for o in operands]
    return np.array(rows, np.int32).ravel()


def evaluate_plainly(problem: Problem, operands: Operands, indices: Indices, mask: Mask) -> tuple[Float[Array, "..."], ...]:
    """Evaluate a polynomial with operations of jax; every value is an array [items, channels]. Arguments as for `evaluate`."""
    polynomial, dtype = problem.polynomial, operands[0].dtype
    values: list[jax.Array] = []
    for operand, array in zip(polynomial.inputs, operands, strict=True):
        values += _values_of_items(operand, jnp.asarray(array), indices)
    for terms in polynomial.sums:
        products = [functools.reduce(jnp.multiply, (values[f] for f in term.factors), jnp.asarray(term.constant, dtype)) for term in terms]
        values.append(functools.reduce(jnp.add, products, jnp.zeros((), dtype)))
    channels, outputs = _channels(polynomial, operands), []
    for operand, numbers, rows in zip(polynomial.outputs, polynomial.results, problem.rows, strict=True):
        items = rows if operand.index is None else len(indices[operand.index])
        stacked = jnp.stack([jnp.broadcast_to(values[number], (items, channels)) for number in numbers], axis=1)
        stacked = stacked if mask is None else jnp.where(mask[:, None, None], stacked, 0)
        stacked = stacked.sum(axis=2) if operand.is_scalar else stacked
        stacked = stacked if operand.index is None else segment_sum(stacked, jnp.asarray(indices[operand.index]), rows)
        outputs.append(stacked.transpose(1, 0, 2) if operand.values_lead else stacked)
    return tuple(outputs)


def _values_of_items(operand: Operand, array: jax.Array, indices: Indices) -> list[jax.Array]:
    """Return the values of an operand, each [items, channels], or [items, 1] for a scalar."""
    vectors = array[:, :, None] if operand.is_scalar else array
    by_row = vectors.transpose(1, 0, 2) if operand.values_lead else vectors
    by_item = by_row if operand.index is None else gather(by_row, jnp.asarray(indices[operand.index]))
    return list(by_item.transpose(1, 0, 2))
