"""The batch of graphs on which the sites of the model are measured."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mace_tp.data.batching import choose_buckets, pad_batch
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.graphs import build_graphs
from mace_tp.data.readers import read_configurations
from mace_tp.data.splits import separate_isolated_atoms
from mace_tp.errors import InputError
from mace_tp.graph import GraphBatch


def first_batch(path: str, num_graphs: int, cutoff: float, dtype: DTypeLike) -> GraphBatch:
    """Return the first configurations of a file as one padded batch; labels are ignored.

    Raises:
        InputError: the file cannot be read or holds only isolated atoms.
    """
    configurations, _ = separate_isolated_atoms(read_configurations(path, LabelKeys()))
    if not configurations:
        raise InputError(f"--data {path}: no configuration besides isolated atoms")
    chosen = configurations[:num_graphs]
    elements = sorted({int(number) for configuration in chosen for number in configuration.atomic_numbers})
    graphs = build_graphs(chosen, elements, [0.0] * len(elements), cutoff)
    batch = pad_batch(graphs, choose_buckets(graphs, len(graphs), shuffle=False)[-1], dtype)
    return jax.tree.map(jnp.asarray, batch)
