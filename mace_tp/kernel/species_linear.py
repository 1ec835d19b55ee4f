"""Linear maps of channels with a matrix for each element, by compiled code that multiplies each node by its own matrix only.

With x, y and matrices W the form Σ x[m, n, c] W[species[n], c, d] y[m, n, d] is linear in each of the three: its derivative by one is a
function of the two others, and every derivative of that is again one of these.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.custom_derivatives import SymbolicZero

from mace_tp.kernel.build import target_name


def species_linear(features: jax.Array, matrices: jax.Array, species: jax.Array) -> jax.Array:
    """Features [components, nodes, in] times the matrix of each node's element [elements, in, out] → [components, nodes, out].

    Reverse derivatives of any order are defined, forward mode is not.

    Args:
        features: float32 or float64.
        matrices: of the same dtype.
        species: [nodes], int32.

    Raises:
        NoKernel: it cannot be built here.
    """
    return _contractions["y"](len(matrices), (features, matrices), species)


def _apply(features: jax.Array, matrices: jax.Array, species: jax.Array, is_transposed: bool) -> jax.Array:
    shape = jax.ShapeDtypeStruct((*features.shape[:2], matrices.shape[1 if is_transposed else 2]), features.dtype)
    call = jax.ffi.ffi_call(target_name("apply", features.dtype.name), shape, vmap_method="sequential")
    return call(features, matrices, species, is_transposed=np.int32(is_transposed))


def _outer(features: jax.Array, products: jax.Array, species: jax.Array, elements: int) -> jax.Array:
    shape = jax.ShapeDtypeStruct((elements, features.shape[2], products.shape[2]), features.dtype)
    return jax.ffi.ffi_call(target_name("outer", features.dtype.name), shape, vmap_method="sequential")(features, products, species)


# Each of the three from the two others.
_FORMS: dict[str, Callable[[int, tuple[jax.Array, jax.Array], jax.Array], jax.Array]] = {
    "x": lambda elements, others, species: _apply(others[1], others[0], species, is_transposed=True),
    "w": lambda elements, others, species: _outer(*others, species, elements),
    "y": lambda elements, others, species: _apply(*others, species, is_transposed=False),
}


def _contraction(missing: str) -> jax.custom_vjp:
    names = [name for name in _FORMS if name != missing]

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def contract(elements: int, others: tuple[jax.Array, jax.Array], species: jax.Array) -> jax.Array:
        return _FORMS[missing](elements, others, species)

    def forward(elements: int, others: Sequence[Any], species: Any) -> tuple[jax.Array, tuple]:
        values = tuple(other.value for other in others)
        # None for what no derivative is asked for: a pytree without leaves, known while tracing.
        wanted = tuple(() if other.perturbed else None for other in others)
        return contract(elements, values, species.value), (values, species.value, wanted)

    def backward(elements: int, residuals: tuple, cotangent: jax.Array | SymbolicZero) -> tuple:
        values, species, wanted = residuals
        if isinstance(cotangent, SymbolicZero):
            return (None, None), None
        known = dict(zip(names, values, strict=True)) | {missing: cotangent}
        found = [
            None if flag is None else _contractions[name](elements, tuple(known[other] for other in _FORMS if other != name), species)
            for name, flag in zip(names, wanted, strict=True)
        ]
        return tuple(found), None

    contract.defvjp(forward, backward, symbolic_zeros=True)
    return contract


_contractions = {name: _contraction(name) for name in _FORMS}


def species_linear_plainly(features: jax.Array, matrices: jax.Array, species: jax.Array) -> jax.Array:
    """The same by the operations of jax: one matrix product over (element, channel), of features that are zero but for one element."""
    elements, channels, out = matrices.shape
    one_hot = jax.nn.one_hot(species, elements, dtype=features.dtype)
    expanded = (one_hot[:, :, None] * features[:, :, None, :]).reshape(*features.shape[:2], elements * channels)
    return expanded @ matrices.reshape(elements * channels, out)
