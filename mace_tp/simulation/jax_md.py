"""A potential as an energy function of jax-md, so that a whole simulation is one XLA program.

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
from mace_tp.graph import outside, single_structure
from mace_tp.model.potential import Potential
from mace_tp.runtime.forked import refuse_fork

EdgeEnergy = Callable[[jax.Array, jax.Array], jax.Array]
"""(vectors [atoms, neighbors, 3] in Å, neighbors [atoms, neighbors]) → energy in eV."""


def mace_neighbor_list(
    displacement: Callable[..., jax.Array], box: Any, model: Potential, atomic_numbers: Sequence[int], *, skin: float = 0.5,
    fractional_coordinates: bool = False,
) -> tuple[Any, Callable[..., jax.Array]]:  # fmt: skip
    """Neighbor list and energy function of jax-md: `neighbor_fn.allocate(positions)` and `energy_fn(positions, neighbor)`.

    Energies do not contain the E0s, a large constant that would cost digits in float32. If the displacement wraps to the nearest image,
    as in jax-md's periodic spaces, the box must be wider than twice the cutoff; a box that is not rectangular must be wider than twice
    the sum of cutoff and skin. A barostat must keep the box that wide.

    Args:
        displacement: of jax-md, (a, b) → a - b in Å.
        box: of jax-md, Å: an edge, three edges, or lattice vectors as columns [3, 3].
        model: gradient or direct forces; jax-md always uses the gradient of the energy.
        atomic_numbers: Z of every atom, in the order of the positions.
        skin: Å. Neighbors are kept while no atom has moved by half of the skin.
        fractional_coordinates: of jax-md.

    Raises:
        InputError: jax-md is not installed, the model does not know an element, the box is too small for the nearest image, or this
            process was forked after jax was used.
    """
    refuse_fork()
    _require_wide(displacement, box, model.cutoff, skin, fractional_coordinates)
    space, partition = _import("space"), _import("partition")
    # jax-md itself adds the skin to the cutoff.
    neighbor_fn = partition.neighbor_list(
        displacement, box, model.cutoff, dr_threshold=skin, fractional_coordinates=fractional_coordinates,
        format=partition.NeighborListFormat.Dense,
    )  # fmt: skip
    energy_of_edges = edge_energy(model, atomic_numbers)

    # jax-md passes further arguments, such as the box of a barostat, for the displacement; they are the same for every edge.
    def energy_fn(positions: jax.Array, neighbor: Any, **dynamic: Any) -> jax.Array:
        refuse_fork()
        num_atoms, width = neighbor.idx.shape
        receivers = jnp.repeat(positions, width, axis=0)
        senders = positions[jnp.minimum(neighbor.idx, num_atoms - 1).ravel()]
        vectors = space.map_bond(functools.partial(displacement, **dynamic))(receivers, senders)
        return energy_of_edges(vectors.reshape(num_atoms, width, 3), neighbor.idx)

    return neighbor_fn, energy_fn


def edge_energy(model: Potential, atomic_numbers: Sequence[int]) -> EdgeEnergy:
    """Interaction energy of a structure as a function of its edge vectors and its table of neighbors.

    Entries of the table that are not below the number of atoms are padding, as in jax-md; their vectors are ignored.

    Raises:
        InputError: the model does not know an element, or this process was forked after jax was used.
    """
    refuse_fork()
    species = species_of(atomic_numbers, model.elements)
    num_atoms, cutoff, dtype = len(species), model.cutoff, model.dtype

    def energy(vectors: jax.Array, neighbors: jax.Array) -> jax.Array:
        missing = -neighbors.shape[1] % EDGE_BLOCK
        neighbors = jnp.pad(neighbors, ((0, 0), (0, missing)), constant_values=num_atoms).astype(jnp.int32)
        vectors = jnp.pad(vectors.astype(dtype), ((0, 0), (0, missing), (0, 0)))
        mask = neighbors < num_atoms
        vectors = jnp.where(mask[..., None], vectors, outside(cutoff, dtype))
        receivers = jnp.repeat(jnp.arange(num_atoms, dtype=jnp.int32), neighbors.shape[1])
        senders = jnp.where(mask.ravel(), neighbors.ravel(), receivers)
        is_atom, no_cell = jnp.ones(num_atoms, bool), jnp.zeros((3, 3), dtype)
        batch = single_structure(jnp.asarray(species), is_atom, senders, receivers, vectors.reshape(-1, 3), mask.ravel(), no_cell)
        return jnp.sum(nnx.merge(model.graphdef, model.params)(batch.edge_vectors, batch))

    return energy


def _require_wide(displacement: Callable[..., jax.Array], box: Any, cutoff: float, skin: float, fractional: bool) -> None:
    """Raise an InputError if the displacement wraps to the nearest image while a second image may be within the cutoff."""
    columns = np.asarray(box, np.float64)
    if columns.ndim < 2:
        columns = np.diag(np.broadcast_to(columns, 3))
    # In a periodic space a displacement by a lattice vector is zero.
    steps = np.eye(3) if fractional else columns.T
    there = np.array([np.linalg.norm(displacement(jnp.asarray(step), jnp.zeros(3))) for step in steps])
    wraps = there < np.linalg.norm(columns, axis=0) / 2
    if not wraps.any():
        return
    width = (1 / np.linalg.norm(np.linalg.inv(columns), axis=1))[wraps].min()
    # Rounding coordinates finds the nearest image of any two atoms in a rectangular box. In a skewed box it does so only for atoms
    # closer than half the width of the box.
    is_rectangular = np.array_equal(columns, np.diag(np.diag(columns)))
    least = 2 * cutoff if is_rectangular else 2 * (cutoff + skin)
    if width <= least:
        what = f"twice the cutoff of {cutoff:g} Å" + ("" if is_rectangular else f" and the skin of {skin:g} Å")
        raise InputError(f"box: is {width:.4g} Å wide, which must be more than {what}; repeat the structure")


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"jax_md.{module}")
    except ImportError as error:
        raise InputError(f"energy functions of jax-md need it: pip install jax-md ({error})") from error
