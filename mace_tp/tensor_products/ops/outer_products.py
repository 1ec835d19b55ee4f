"""Bilinear maps path by path: outer products of two irreps, times dense tables.

All outputs of a pair of irreps share its outer product, so that a pair is one matrix product over all entries. A sparse sum for each
entry is faster up to l = 2 only, and takes XLA seconds to compile from l = 3 on.
"""

from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.tensor_products.algebra.paths import Path
from mace_tp.tensor_products.ops.sparse_product import total
from mace_tp.tensor_products.ops.table_map import table_map

Pair = tuple[e3nn.Irrep, e3nn.Irrep]


def outer_products(
    paths: Sequence[Path],
    tables: Sequence[np.ndarray],
    first: dict[e3nn.Irrep, jax.Array],
    second: dict[e3nn.Irrep, jax.Array],
) -> list[jax.Array]:
    """Σ_ij table[i, j, m] first[i] second[j] for every path [output components, entries].

    Args:
        paths: the couplings.
        tables: for each path [first components, second components, output components], float64.
        first: by irrep [components, entries].
        second: likewise.
    """
    products: dict[int, jax.Array] = {}
    for (left, right), members in _by_pair(paths).items():
        table = np.concatenate([tables[i].reshape(left.dim * right.dim, -1) for i in members], axis=1).T
        outer = _outer(first[left], second[right]).reshape(left.dim * right.dim, -1)
        blocks = jnp.split(table_map(np.ascontiguousarray(table))(outer), np.cumsum([paths[i].out.dim for i in members])[:-1])
        products |= dict(zip(members, blocks, strict=True))
    return [products[i] for i in range(len(paths))]


@jax.custom_vjp
def _outer(left: jax.Array, right: jax.Array) -> jax.Array:
    """left[i] right[j] [i, j, entries]; its derivatives are again bilinear, as sums written out, which XLA fuses."""
    return left[:, None] * right


@jax.custom_vjp
def _contract(table: jax.Array, right: jax.Array) -> jax.Array:
    """Σ_j table[i, j] right[j] [i, entries]."""
    return total([table[:, j] * right[j] for j in range(len(right))])


_outer.defvjp(
    lambda left, right: (_outer(left, right), (left, right)),
    lambda factors, cotangent: (_contract(cotangent, factors[1]), _contract(cotangent.swapaxes(0, 1), factors[0])),
)
_contract.defvjp(
    lambda table, right: (_contract(table, right), (table, right)),
    lambda factors, cotangent: (_outer(cotangent, factors[1]), _contract(factors[0].swapaxes(0, 1), cotangent)),
)


def _by_pair(paths: Sequence[Path]) -> dict[Pair, list[int]]:
    """Positions of the paths of every pair of irreps."""
    pairs: dict[Pair, list[int]] = {}
    for i, path in enumerate(paths):
        pairs.setdefault((path.node, path.edge), []).append(i)
    return pairs
