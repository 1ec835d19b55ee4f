"""A trained model as an energy function of jax-md, so that a whole simulation is one program of XLA.

pip install 'mace-tp[jax-md]'
"""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mace_tp.data.elements import symbol, symbols
from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.errors import InputError
from mace_tp.graph import GraphBatch, outside
from mace_tp.saved_model import Model

EdgeEnergy = Callable[[jax.Array, jax.Array], jax.Array]
"""(vectors [atoms, neighbors, 3] in Å, neighbors [atoms, neighbors]) → energy in eV."""


def mace_neighbor_list(
    displacement: Callable[..., jax.Array], box: Any, model: Model, atomic_numbers: Sequence[int], *, skin: float = 0.5,
    fractional_coordinates: bool = False,
) -> tuple[Any, Callable[..., jax.Array]]:  # fmt: skip
    """Neighbors and energy of a structure, in jax-md's form: `neighbor_fn.allocate(positions)`, `energy_fn(positions, neighbor)`.

    Energies are without the E0s, a constant that float32 would round the rest away with. Where the displacement wraps to the nearest
    image, as in jax-md's periodic spaces, the box must be wider than twice the cutoff and the skin.

    Args:
        displacement: of jax-md, (a, b) → a - b in Å.
        box: of jax-md, Å.
        model: with any forces; those of jax-md are the gradient of the energy.
        atomic_numbers: Z of every atom, in the order of the positions.
        skin: Å. Neighbors are kept while no atom has moved by half of it.
        fractional_coordinates: of jax-md.

    Raises:
        InputError: jax-md is not installed, or the model does not know an element.
    """
    space, partition = _import("space"), _import("partition")
    neighbor_fn = partition.neighbor_list(
        displacement, box, model.architecture.cutoff + skin, dr_threshold=skin, fractional_coordinates=fractional_coordinates,
        format=partition.NeighborListFormat.Dense,
    )  # fmt: skip
    energy_of_edges = edge_energy(model, atomic_numbers)
    bonds = space.map_bond(displacement)

    # What else jax-md's simulations hand on is for the displacement, such as the box of a barostat.
    def energy_fn(positions: jax.Array, neighbor: Any, **dynamic: Any) -> jax.Array:
        num_atoms, width = neighbor.idx.shape
        receivers = jnp.repeat(positions, width, axis=0)
        senders = positions[jnp.minimum(neighbor.idx, num_atoms - 1).ravel()]
        vectors = bonds(receivers, senders, **dynamic)
        return energy_of_edges(vectors.reshape(num_atoms, width, 3), neighbor.idx)

    return neighbor_fn, energy_fn


def edge_energy(model: Model, atomic_numbers: Sequence[int]) -> EdgeEnergy:
    """Interaction energy of a structure as a function of its edge vectors, in a table of neighbors for each atom.

    A neighbor that is the number of atoms, as jax-md fills up its tables, or larger does not count, and its vector is not looked at.

    Raises:
        InputError: the model does not know an element.
    """
    species = _species(model, atomic_numbers)
    num_atoms, cutoff = len(species), model.architecture.cutoff
    dtype = jax.tree.leaves(model.params)[0].dtype

    def energy(vectors: jax.Array, neighbors: jax.Array) -> jax.Array:
        missing = -neighbors.shape[1] % EDGE_BLOCK
        neighbors = jnp.pad(neighbors, ((0, 0), (0, missing)), constant_values=num_atoms)
        vectors = jnp.pad(vectors.astype(dtype), ((0, 0), (0, missing), (0, 0)))
        mask = neighbors < num_atoms
        vectors = jnp.where(mask[..., None], vectors, outside(cutoff, dtype))
        batch = _batch(species, neighbors, mask, dtype)
        mace = nnx.merge(model.graphdef, model.params)
        return jnp.sum(mace(vectors.reshape(-1, 3), batch))

    return energy


def _batch(species: np.ndarray, neighbors: jax.Array, mask: jax.Array, dtype: jnp.dtype) -> GraphBatch:
    """Connectivity of one structure without padded atoms. Every edge is a pair of its own: nothing tells which one is its reverse."""
    num_atoms, num_edges = len(species), neighbors.size
    receivers = jnp.repeat(jnp.arange(num_atoms), neighbors.shape[1])
    edges = jnp.arange(num_edges)
    mask = mask.ravel()
    # The second entry only says whether a pair is real, which it is where it differs from the first.
    pairs = jnp.stack([edges, jnp.where(mask, (edges + 1) % max(num_edges, 2), edges)], axis=1)
    zeros, one, none = jnp.zeros((num_atoms, 3), dtype), jnp.ones(1, bool), jnp.zeros(1, bool)
    return GraphBatch(
        positions=zeros, species=jnp.asarray(species), node_graph=jnp.zeros(num_atoms, jnp.int32), node_mask=jnp.ones(num_atoms, bool),
        senders=jnp.where(mask, neighbors.ravel(), receivers), receivers=receivers, shifts=jnp.zeros((num_edges, 3), dtype),
        edge_mask=mask, edge_pair=edges, pair_edges=pairs, cell=jnp.zeros((1, 3, 3), dtype), graph_mask=one,
        energy=jnp.zeros(1, dtype), forces=zeros, stress=jnp.zeros((1, 3, 3), dtype), energy_mask=none, forces_mask=none, stress_mask=none,
    )  # fmt: skip


def _species(model: Model, atomic_numbers: Sequence[int]) -> np.ndarray:
    elements, numbers = np.asarray(model.statistics.atomic_numbers), np.asarray(atomic_numbers, int)
    unknown = ~np.isin(numbers, elements)
    if unknown.any():
        atom = int(np.argmax(unknown))
        raise InputError(f"atom {atom}: element {symbol(int(numbers[atom]))} is not one of the model's ({symbols(elements.tolist())})")
    return np.searchsorted(elements, numbers).astype(np.int32)


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"jax_md.{module}")
    except ImportError as error:
        raise InputError(f"energy functions of jax-md need it: pip install jax-md ({error})") from error
