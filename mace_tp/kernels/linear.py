"""Linear maps of channels, irrep by irrep, by compiled code: with one matrix for all nodes, or with one for each element.

With features x and y and matrices W the form Σ scale x[copy m, n, c] W[species[n], copy, c, d] y[m, n, d] is linear in each of the
three: its derivative by one is a function of the two others, and every derivative of that is again one of these.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from mace_tp.kernels.build import target_name

Matrices = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class IrrepMap:
    """Copies of an irrep among the rows of the input, [copy, m], and the one copy among those of the output."""

    first_in: int  # row
    copies: int
    dim: int
    first_out: int  # row
    scale: float  # of the result


@dataclasses.dataclass(frozen=True)
class ChannelMap:
    """Which rows are mixed with which matrix; rows of the output that no irrep has are zero."""

    irreps: tuple[IrrepMap, ...]
    rows_in: int
    rows_out: int


def linear(channel_map: ChannelMap, features: jax.Array, matrices: Matrices, species: jax.Array) -> jax.Array:
    """Features [rows_in, nodes, in] → [rows_out, nodes, out]. Reverse derivatives of any order are defined, forward mode is not.

    Args:
        channel_map: what is mixed.
        features: float32 or float64.
        matrices: for each irrep [elements, copies, in, out], of the same dtype; with one element it is that of all nodes.
        species: [nodes], int32.

    Raises:
        NoKernel: it cannot be built here.
    """
    shapes = _Shapes(channel_map, features.shape[1], features.shape[2], matrices[0].shape[3], matrices[0].shape[0])
    return _contractions["y"](shapes, (features, matrices), species)


@dataclasses.dataclass(frozen=True)
class _Shapes:
    """Of all three."""

    channel_map: ChannelMap
    nodes: int
    channels_in: int
    channels_out: int
    elements: int

    def of(self, name: str, dtype: jnp.dtype) -> Any:
        """Shape of x or y, or the shapes of the matrices."""
        if name == "w":
            shapes = [(self.elements, irrep.copies, self.channels_in, self.channels_out) for irrep in self.channel_map.irreps]
            return tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
        rows, channels = {"x": (self.channel_map.rows_in, self.channels_in), "y": (self.channel_map.rows_out, self.channels_out)}[name]
        return jax.ShapeDtypeStruct((rows, self.nodes, channels), dtype)


_NAMES = ("x", "w", "y")


def _call(missing: str, shapes: _Shapes, others: Sequence[Any], species: jax.Array) -> Any:
    arguments = jax.tree.leaves(others)
    dtype, irreps = arguments[0].dtype, shapes.channel_map.irreps
    table = np.array([(irrep.first_in, irrep.copies, irrep.dim, irrep.first_out) for irrep in irreps], np.int32)
    call = jax.ffi.ffi_call(target_name("linear", dtype.name), shapes.of(missing, dtype), vmap_method="sequential")
    rows = sum(irrep.copies * irrep.dim for irrep in irreps)
    return call(
        *arguments,
        species,
        irreps=table.ravel(),
        scales=np.array([irrep.scale for irrep in irreps]),
        wanted=np.int32(_NAMES.index(missing)),
        flops=np.int64(2 * rows * shapes.nodes * shapes.channels_in * shapes.channels_out),
    )


def _contraction(missing: str) -> jax.custom_vjp:
    """One of x, w and y as a function of the two others."""
    names = [name for name in _NAMES if name != missing]

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def contract(shapes: _Shapes, others: tuple, species: jax.Array) -> Any:
        return _call(missing, shapes, others, species)

    def forward(shapes: _Shapes, others: tuple, species: Any) -> tuple[Any, tuple]:
        values = tuple(jax.tree.map(lambda leaf: leaf.value, other, is_leaf=_is_marked) for other in others)
        wanted = [any(leaf.perturbed for leaf in jax.tree.leaves(other, is_leaf=_is_marked)) for other in others]
        # None is a pytree without leaves: it tells while tracing that no derivative is asked for.
        return contract(shapes, values, species.value), (values, species.value, tuple(() if flag else None for flag in wanted))

    def backward(shapes: _Shapes, residuals: tuple, cotangent: Any) -> tuple:
        values, species, wanted = residuals
        if all(map(_is_zero, jax.tree.leaves(cotangent, is_leaf=_is_zero))):
            return (None, None), None
        filled = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) if _is_zero(leaf) else leaf, cotangent, is_leaf=_is_zero)
        known = dict(zip(names, values, strict=True)) | {missing: filled}
        found = [
            None if flag is None else _contractions[name](shapes, tuple(known[other] for other in _NAMES if other != name), species)
            for name, flag in zip(names, wanted, strict=True)
        ]
        return tuple(found), None

    contract.defvjp(forward, backward, symbolic_zeros=True)
    return contract


def _is_marked(leaf: Any) -> bool:
    """Whether a leaf is a value with the mark whether its derivative is asked for."""
    return isinstance(leaf, CustomVJPPrimal)


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


_contractions = {name: _contraction(name) for name in _NAMES}


def linear_plainly(channel_map: ChannelMap, features: jax.Array, matrices: Matrices, species: jax.Array) -> jax.Array:
    """The same by the operations of jax. Arguments as for `linear`."""
    # Split, not indexed: the derivative of a split is a concatenation, that of slices a sum of zero-padded arrays.
    ends = sorted({end for irrep in channel_map.irreps for end in (irrep.first_in, irrep.first_in + irrep.copies * irrep.dim)} - {0})
    blocks = dict(zip([0, *ends], jnp.split(features, ends)))
    # Rows that no irrep has stay as they are.
    rows = {row: jnp.zeros((1, features.shape[1], matrices[0].shape[3]), features.dtype) for row in range(channel_map.rows_out)}
    for irrep, matrix in zip(channel_map.irreps, matrices, strict=True):
        block = blocks[irrep.first_in].reshape(irrep.copies, irrep.dim, *features.shape[1:])
        for row in range(irrep.first_out, irrep.first_out + irrep.dim):
            del rows[row]
        rows[irrep.first_out] = _mix(block, jnp.asarray(irrep.scale, matrix.dtype) * matrix, species)
    return jnp.concatenate([rows[row] for row in sorted(rows)])


def _mix(block: jax.Array, matrix: jax.Array, species: jax.Array) -> jax.Array:
    """Copies [copies, m, nodes, in] times matrices [elements, copies, in, out], summed over copies."""
    if len(matrix) == 1:
        return jnp.einsum("pmnc,pcd->mnd", block, matrix[0])
    # One matrix product over (element, channel), of features that are zero but for one element.
    one_hot = jax.nn.one_hot(species, len(matrix), dtype=block.dtype)
    return jnp.einsum("pmnec,epcd->mnd", one_hot[:, :, None] * block[..., None, :], matrix)


Mix = Callable[[ChannelMap, jax.Array, tuple[jax.Array, ...], jax.Array], jax.Array]
"""`linear` of the kernel or what computes the same."""
