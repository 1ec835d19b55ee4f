"""Sums over edges of products of radial weights, sender features and harmonics, common to all interactions.

A message is m[n, o, c] = Σ_e coupling[e, o, i] weight[e, c] feats[e, i, c] over the edges that node n receives. The coupling tensor
of a product, contracted with an edge's harmonics, is a small matrix that all channels share. Edges come in blocks with one
receiver, so the sum within a block is a loop of fixed length. On a CPU, XLA evaluates this sum and each of its derivatives in one
pass over the inputs, without intermediate arrays. As batched matrix products, eight edges long, it takes three to four times as long.
"""

from collections.abc import Callable, Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.graph import gather, segment_sum
from mace_tp.tensor_products.algebra.paths import Path
from mace_tp.tensor_products.ops.sparse_product import total


def edge_weights(pair_weights: jax.Array, edge_pair: jax.Array) -> list[jax.Array]:
    """Weights of the edges, num_weights arrays [edges, channels], from those of their pairs.

    Args:
        pair_weights: [pairs, num_weights, channels].
        edge_pair: pair of every edge [edges].
    """
    num_pairs, num_weights, channels = pair_weights.shape
    # Split, not indexed: the derivative of a split is a concatenation, that of slices a sum of zero-padded arrays.
    columns = jnp.split(pair_weights.reshape(num_pairs, num_weights * channels), num_weights, axis=1)
    return [gather(column, edge_pair) for column in columns]


def path_couplings(paths: Sequence[Path], tables: Sequence[np.ndarray], edge_attrs: dict[e3nn.Irrep, jax.Array]) -> list[jax.Array]:
    """For every path its table contracted with the harmonics [blocks, EDGE_BLOCK, outputs, components].

    Args:
        paths: the couplings.
        tables: for each path [harmonics, node components, output components].
        edge_attrs: harmonics, by irrep [components, edges].
    """
    return [edge_coupling(table, edge_attrs[path.edge].T) for path, table in zip(paths, tables, strict=True)]


def path_messages(
    paths: Sequence[Path],
    couplings: Sequence[jax.Array],
    weights: Sequence[jax.Array],
    node_feats: dict[e3nn.Irrep, jax.Array],
    senders: jax.Array,
) -> list[jax.Array]:
    """Messages of every path, summed over the edges of each block [blocks, output components, channels].

    Args:
        paths: the couplings.
        couplings: of `path_couplings`.
        weights: for each path [edges, channels], radial.
        node_feats: by irrep [components, nodes, channels].
        senders: [edges].
    """
    return [
        sum_messages(coupling, in_blocks(weight), gather_blocks(node_feats[path.node], senders))
        for path, coupling, weight in zip(paths, couplings, weights, strict=True)
    ]


def gather_blocks(node_feats: jax.Array, senders: jax.Array) -> jax.Array:
    """Features [components, nodes, channels] of the senders [blocks, EDGE_BLOCK, components, channels]."""
    return in_blocks(gather(node_feats.transpose(1, 0, 2), senders))


def in_blocks(edge_values: jax.Array) -> jax.Array:
    """[edges, ...] → [blocks, EDGE_BLOCK, ...]."""
    return edge_values.reshape(-1, EDGE_BLOCK, *edge_values.shape[1:])


def edge_coupling(table: np.ndarray, harmonics: jax.Array) -> jax.Array:
    """A coupling table [harmonics, components, outputs] contracted with the harmonics of every edge [edges, harmonics].

    Returns:
        [blocks, EDGE_BLOCK, outputs, components], for `sum_messages`.
    """
    table = table.transpose(0, 2, 1)
    flat = harmonics @ table.reshape(len(table), -1).astype(harmonics.dtype)
    return in_blocks(flat.reshape(-1, *table.shape[1:]))


def sum_messages(coupling: jax.Array, weight: jax.Array, feats: jax.Array) -> jax.Array:
    """Σ over the edges e of a block and the components i of coupling[e, o, i] weight[e] feats[e, i].

    Reverse derivatives of any order are again such contractions; forward mode is not defined.

    Args:
        coupling: [blocks, EDGE_BLOCK, outputs, components].
        weight: radial [blocks, EDGE_BLOCK, channels].
        feats: of the senders [blocks, EDGE_BLOCK, components, channels].

    Returns:
        [blocks, outputs, channels].
    """
    return _contractions["message"](coupling, weight, feats)


def sum_blocks(parts: Sequence[jax.Array], receivers: jax.Array, num_nodes: int) -> jax.Array:
    """Sum over the blocks of each node; the components of all parts follow each other [components of all parts, nodes, channels].

    Args:
        parts: [blocks, components, channels] each.
        receivers: [edges], ascending, equal within a block.
        num_nodes: number of receivers.
    """
    sums = [segment_sum(part, receivers[::EDGE_BLOCK], num_nodes, indices_are_sorted=True) for part in parts]
    return jnp.concatenate(sums, axis=1).transpose(1, 0, 2)


def _message(coupling: jax.Array, weight: jax.Array, feats: jax.Array) -> jax.Array:
    # Written out, not as a reduction: from two reductions XLA factors out the common part, as an array with an entry for every edge and
    # output.
    terms = [
        coupling[:, e, :, i, None] * (weight[:, e] * feats[:, e, i])[:, None] for e in range(EDGE_BLOCK) for i in range(feats.shape[2])
    ]
    return total(terms)


def _weight(coupling: jax.Array, feats: jax.Array, message: jax.Array) -> jax.Array:
    back = [total([coupling[:, :, o, i, None] * message[:, None, o] for o in range(message.shape[1])]) for i in range(feats.shape[2])]
    return total([feats[:, :, i] * term for i, term in enumerate(back)])


def _feats(coupling: jax.Array, weight: jax.Array, message: jax.Array) -> jax.Array:
    terms = [coupling[:, :, o, :, None] * message[:, None, o, None] for o in range(message.shape[1])]
    return weight[:, :, None] * total(terms)


def _coupling(weight: jax.Array, feats: jax.Array, message: jax.Array) -> jax.Array:
    # A sum over channels is a slow loop in XLA, a product with ones a fast one.
    products = weight[:, :, None, None] * feats[:, :, None] * message[:, None, :, None]
    return products @ jnp.ones(weight.shape[-1], weight.dtype)


# Each form is a jitted function, so that jax traces it once for a shape, not once for every path and derivative.
_FORMS = {name: jax.jit(form) for name, form in (("coupling", _coupling), ("weight", _weight), ("feats", _feats), ("message", _message))}


def _contraction(missing: str) -> Callable[..., jax.Array]:
    """Derivative of Σ coupling · weight · feats · message with respect to one of the four, as a function of the three others."""
    names = [name for name in _FORMS if name != missing]

    @jax.custom_vjp
    def contract(*operands: jax.Array) -> jax.Array:
        return _FORMS[missing](*operands)

    def forward(*operands: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        return contract(*operands), operands

    def backward(operands: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[jax.Array, ...]:
        known = dict(zip(names, operands)) | {missing: cotangent}
        return tuple(_contractions[name](*(known[other] for other in _FORMS if other != name)) for name in names)

    contract.defvjp(forward, backward)
    return contract


_contractions = {name: _contraction(name) for name in _FORMS}
