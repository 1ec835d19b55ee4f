"""A trained model as an energy function of jax-md, so that a whole simulation is one program of XLA.

In the clone of mace-tp: pip install -e '.[jax-md]'
"""

import functools
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mace_tp.data.elements import species_of
from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.errors import InputError
from mace_tp.graph import GraphBatch, outside
from mace_tp.model.saved_model import Model
from mace_tp.runtime.forked import refuse_fork

EdgeEnergy = Callable[[jax.Array, jax.Array], jax.Array]
"""(vectors [atoms, neighbors, 3] in Å, neighbors [atoms, neighbors]) → energy in eV."""


def mace_neighbor_list(
    displacement: Callable[..., jax.Array], box: Any, model: Model, atomic_numbers: Sequence[int], *, skin: float = 0.5,
    fractional_coordinates: bool = False,
) -> tuple[Any, Callable[..., jax.Array]]:  # fmt: skip
    """Neighbors and energy of a structure, in jax-md's form: `neighbor_fn.allocate(positions)`, `energy_fn(positions, neighbor)`.

    Energies are without the E0s, a constant that float32 would round the rest away with. Where the displacement wraps to the nearest
    image, as in jax-md's periodic spaces, the box must be wider than twice the cutoff, a box that is not rectangular than twice the
    cutoff and the skin; a barostat must keep it so.

    Args:
        displacement: of jax-md, (a, b) → a - b in Å.
        box: of jax-md, Å: an edge, three edges, or lattice vectors as columns [3, 3].
        model: with any forces; those of jax-md are the gradient of the energy.
        atomic_numbers: Z of every atom, in the order of the positions.
        skin: Å. Neighbors are kept while no atom has moved by half of it.
        fractional_coordinates: of jax-md.

    Raises:
        InputError: jax-md is not installed, the model does not know an element, the box is too small for the nearest image, or this
            process was forked after jax was used.
    """
    refuse_fork()
    _require_wide(displacement, box, model.architecture.cutoff, skin, fractional_coordinates)
    space, partition = _import("space"), _import("partition")
    # jax-md adds the skin to the cutoff by itself.
    neighbor_fn = partition.neighbor_list(
        displacement, box, model.architecture.cutoff, dr_threshold=skin, fractional_coordinates=fractional_coordinates,
        format=partition.NeighborListFormat.Dense,
    )  # fmt: skip
    energy_of_edges = edge_energy(model, atomic_numbers)

    # What else jax-md's simulations hand on is for the displacement, such as the box of a barostat: the same for every edge.
    def energy_fn(positions: jax.Array, neighbor: Any, **dynamic: Any) -> jax.Array:
        refuse_fork()
        num_atoms, width = neighbor.idx.shape
        receivers = jnp.repeat(positions, width, axis=0)
        senders = positions[jnp.minimum(neighbor.idx, num_atoms - 1).ravel()]
        vectors = space.map_bond(functools.partial(displacement, **dynamic))(receivers, senders)
        return energy_of_edges(vectors.reshape(num_atoms, width, 3), neighbor.idx)

    return neighbor_fn, energy_fn


def edge_energy(model: Model, atomic_numbers: Sequence[int]) -> EdgeEnergy:
    """Interaction energy of a structure as a function of its edge vectors, in a table of neighbors for each atom.

    A neighbor that is the number of atoms, as jax-md fills up its tables, or larger does not count, and its vector is not looked at.

    Raises:
        InputError: the model does not know an element, or this process was forked after jax was used.
    """
    refuse_fork()
    species = species_of(atomic_numbers, model.statistics.atomic_numbers)
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


def _require_wide(displacement: Callable[..., jax.Array], box: Any, cutoff: float, skin: float, fractional: bool) -> None:
    """Raise an InputError where the displacement wraps to the nearest image, and a second one may be within the cutoff."""
    columns = np.asarray(box, np.float64)
    if columns.ndim < 2:
        columns = np.diag(np.broadcast_to(columns, 3))
    # Where space repeats, a lattice vector leads to the same place.
    steps = np.eye(3) if fractional else columns.T
    there = np.array([np.linalg.norm(displacement(jnp.asarray(step), jnp.zeros(3))) for step in steps])
    wraps = there < np.linalg.norm(columns, axis=0) / 2
    if not wraps.any():
        return
    width = (1 / np.linalg.norm(np.linalg.inv(columns), axis=1))[wraps].min()
    # Rounded coordinates give the nearest image of any two atoms in a rectangular box, in others of those nearer than half its width only.
    is_rectangular = np.array_equal(columns, np.diag(np.diag(columns)))
    least = 2 * cutoff if is_rectangular else 2 * (cutoff + skin)
    if width <= least:
        what = f"twice the cutoff of {cutoff:g} Å" + ("" if is_rectangular else f" and the skin of {skin:g} Å")
        raise InputError(f"box: is {width:.4g} Å wide, which must be more than {what}; repeat the structure")


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
        species=jnp.asarray(species), node_graph=jnp.zeros(num_atoms, jnp.int32), node_mask=jnp.ones(num_atoms, bool),
        senders=jnp.where(mask, neighbors.ravel(), receivers), receivers=receivers, edge_vectors=jnp.zeros((num_edges, 3), dtype),
        edge_mask=mask, edge_pair=edges, pair_edges=pairs, cell=jnp.zeros((1, 3, 3), dtype), graph_mask=one,
        energy=jnp.zeros(1, dtype), forces=zeros, stress=jnp.zeros((1, 3, 3), dtype), energy_mask=none, forces_mask=none, stress_mask=none,
    )  # fmt: skip


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"jax_md.{module}")
    except ImportError as error:
        raise InputError(f"energy functions of jax-md need it: pip install jax-md ({error})") from error
