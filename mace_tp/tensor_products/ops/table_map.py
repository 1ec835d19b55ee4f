"""A constant matrix times the leading axis of features, with derivatives that keep the layout."""

from collections.abc import Callable

import jax
import numpy as np


def table_map(table: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """The linear map features [columns, ...] → table @ features [rows, ...], for any order of reverse derivatives.

    jax transposes `table @ x` into a product with swapped axes and a copy that swaps them back, in the first derivative and
    again in the second. This function avoids these copies of the large arrays of the product basis: its derivative is
    again a `table_map`, of the transposed table. Forward-mode derivatives are not defined.

    Args:
        table: [rows, columns], float64; used in the dtype of the features.
    """

    @jax.custom_vjp
    def apply(features: jax.Array) -> jax.Array:
        flat = table.astype(features.dtype) @ features.reshape(features.shape[0], -1)
        return flat.reshape(table.shape[0], *features.shape[1:])

    def forward(features: jax.Array) -> tuple[jax.Array, None]:
        return apply(features), None

    def backward(_: None, cotangent: jax.Array) -> tuple[jax.Array]:
        return (table_map(np.ascontiguousarray(table.T))(cotangent),)

    apply.defvjp(forward, backward)
    return apply
