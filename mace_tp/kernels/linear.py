"""Linear maps of channels, irrep by irrep, in compiled code: with one matrix for all nodes or one matrix per element.

The form Σ scale x[copy m, n, c] W[species[n], copy, c, d] y[m, n, d] of features x, y and matrices W is linear in each of the three. Its
derivative with respect to one of them is a function of the other two, and every derivative of such a function is again one of them.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Float, Int

from mace_tp.kernels.build import target_name

Features = Float[Array, "rows_in nodes channels_in"]
Matrices = tuple[Float[Array, "elements _ channels_in channels_out"], ...]
"""For each irrep [elements, copies, channels_in, channels_out]; with one element all nodes share the matrix."""
Species = Int[jax.Array | np.ndarray, " nodes"]
Mapped = Float[Array, "rows_out nodes channels_out"]


@dataclasses.dataclass(frozen=True)
class IrrepMap:
    """The rows of one irrep: its copies in the input, ordered [copy, m], and its single copy in the output."""

    first_in: int  # first row in the input
    copies: int
    dim: int
    first_out: int  # first row in the output
    scale: float  # factor of the result


@dataclasses.dataclass(frozen=True)
class ChannelMap:
    """The rows that each matrix maps; rows of the output that belong to no irrep are zero."""

    irreps: tuple[IrrepMap, ...]
    rows_in: int
    rows_out: int


def linear(channel_map: ChannelMap, features: Features, matrices: Matrices, species: Species) -> Mapped:
    """Map the channels of features. Reverse derivatives of any order are defined, forward mode is not.

    Args:
        channel_map: the rows of each irrep.
        features: float32 or float64.
        matrices: of the dtype of the features.
        species: element of each node, int32.

    Raises:
        NoKernel: the kernel cannot be built.
    """
    shapes = _Shapes(channel_map, features.shape[1], features.shape[2], matrices[0].shape[3], matrices[0].shape[0])
    return _contractions["y"](shapes, (features, matrices), species)


@dataclasses.dataclass(frozen=True)
class _Shapes:
    """Sizes of x, W and y."""

    channel_map: ChannelMap
    nodes: int
    channels_in: int
    channels_out: int
    elements: int

    def of(self, name: str, dtype: jnp.dtype) -> Any:
        """Return the shape of x or y, or the shapes of the matrices."""
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


def _contraction(missing: str) -> Callable[..., Any]:
    """Return one of x, w and y as a function of the other two."""
    names = [name for name in _NAMES if name != missing]

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def contract(shapes: _Shapes, others: tuple, species: jax.Array) -> Any:
        return _call(missing, shapes, others, species)

    def forward(shapes: _Shapes, others: tuple, species: Any) -> tuple[Any, tuple]:
        values = tuple(jax.tree.map(lambda leaf: leaf.value, other, is_leaf=_is_marked) for other in others)
        wanted = [any(leaf.perturbed for leaf in jax.tree.leaves(other, is_leaf=_is_marked)) for other in others]
        # None is a pytree without leaves. It marks, at trace time, that no derivative is wanted.
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
    """Whether a leaf is a value that jax has marked as perturbed or not."""
    return isinstance(leaf, CustomVJPPrimal)


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


_contractions = {name: _contraction(name) for name in _NAMES}


def linear_plainly(channel_map: ChannelMap, features: Features, matrices: Matrices, species: Species) -> Mapped:
    """The same map with operations of jax. Arguments as for `linear`."""
    # Split instead of slicing: the derivative of a split is a concatenation, that of slices a sum of zero-padded arrays.
    ends = sorted({end for irrep in channel_map.irreps for end in (irrep.first_in, irrep.first_in + irrep.copies * irrep.dim)} - {0})
    blocks = dict(zip([0, *ends], jnp.split(features, ends)))
    # Rows that belong to no irrep stay zero.
    rows = {row: jnp.zeros((1, features.shape[1], matrices[0].shape[3]), features.dtype) for row in range(channel_map.rows_out)}
    for irrep, matrix in zip(channel_map.irreps, matrices, strict=True):
        block = blocks[irrep.first_in].reshape(irrep.copies, irrep.dim, *features.shape[1:])
        for row in range(irrep.first_out, irrep.first_out + irrep.dim):
            del rows[row]
        rows[irrep.first_out] = _mix(block, jnp.asarray(irrep.scale, matrix.dtype) * matrix, species)
    return jnp.concatenate([rows[row] for row in sorted(rows)])


def _mix(block: jax.Array, matrix: jax.Array, species: Species) -> jax.Array:
    """Multiply copies [copies, m, nodes, in] by matrices [elements, copies, in, out] and sum over copies."""
    if len(matrix) == 1:
        return jnp.einsum("pmnc,pcd->mnd", block, matrix[0])
    # One matrix product over (element, channel): the features of a node are zero for all elements but its own.
    one_hot = jax.nn.one_hot(species, len(matrix), dtype=block.dtype)
    return jnp.einsum("pmnec,epcd->mnd", one_hot[:, :, None] * block[..., None, :], matrix)


Mix = Callable[[ChannelMap, Features, Matrices, Species], Mapped]
"""`linear` of the kernel, or `linear_plainly`."""
