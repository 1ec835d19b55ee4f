"""How far predicted forces are from the gradient of an energy, near single configurations.

The Jacobian J = dF/dr of a gradient is symmetric. After a displacement d the forces are F + S d + A d + O(d²). S = (J + Jᵀ)/2 is to first
order the gradient of an energy, A = (J - Jᵀ)/2 is the gradient of none. J is never stored: J d and Jᵀ d are computed for single d.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.data.batching import BatchLoader, choose_buckets
from mace_tp.data.graphs import Graph
from mace_tp.graph import GraphBatch, displaced
from mace_tp.model.parameters import Params
from mace_tp.model.potential import Potential
from mace_tp.model.programs import CompiledStep, make_predict

# Up to this number of atoms all basis vectors are probed (192); larger configurations are probed with random vectors.
_MAX_EXACT_ATOMS = 64
_NUM_PROBES = 64
_NUM_LOOPS = 16
# Points of a circle; the sum over them is exact for harmonics of the force below this number.
_POINTS = 12
LOOP_RADIUS = 0.05  # Å, norm of the displacement of all atoms together

Field = Callable[[jax.Array], jax.Array]
"""Positions [nodes, 3] in Å → forces [nodes, 3] in eV/Å."""


@dataclasses.dataclass(frozen=True)
class Conservativity:
    """The Jacobian J of the forces of one configuration, split into S + A, its symmetric and antisymmetric part."""

    asymmetry: float  # |J - Jᵀ| / |J|, Frobenius norms; 0 for a gradient, 2 if J is antisymmetric
    rest_share: float  # |A|² / (|S|² + |A|²): mean fraction of |A d|² in |S d|² + |A d|² over isotropic displacements d
    rest_share_error: float  # its standard error; 0 where all basis vectors were probed
    jacobian_norm: float  # |J|, eV/Å²
    loop_work: float  # root mean square of the work along a closed circle, meV
    num_probes: int
    is_exact: bool  # probed with all basis vectors, not with random ones


@dataclasses.dataclass(frozen=True)
class Probes:
    """Vectors v with Σ |B v|² · weight = |B|², exactly or on average."""

    vectors: np.ndarray  # [probes, nodes, 3]
    weight: float
    is_exact: bool


def basis_probes(num_atoms: int, num_nodes: int) -> Probes:
    """All basis vectors of displacements of the first `num_atoms` of `num_nodes` nodes."""
    vectors = np.zeros((3 * num_atoms, num_nodes, 3))
    vectors[:, :num_atoms] = np.eye(3 * num_atoms).reshape(-1, num_atoms, 3)
    return Probes(vectors, 1.0, True)


def random_probes(num_probes: int, num_atoms: int, num_nodes: int, seed: int) -> Probes:
    """Vectors of random signs, zero for padded nodes (Hutchinson 1989)."""
    vectors = np.zeros((num_probes, num_nodes, 3))
    vectors[:, :num_atoms] = np.random.default_rng(seed).choice([-1.0, 1.0], (num_probes, num_atoms, 3))
    return Probes(vectors, 1 / num_probes, False)


def jacobian_products(field: Field, positions: jax.Array, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """J v and Jᵀ v [nodes, 3] by reverse derivatives alone, because the model defines no forward mode.

    Jᵀ u is linear in u. Its transpose, a second pullback, is J.
    """
    _, pullback = jax.vjp(field, positions)
    transposed, push_forward = jax.vjp(lambda cotangent: pullback(cotangent)[0], vector)
    return push_forward(vector)[0], transposed


def squared_parts(field: Field, positions: jax.Array, vector: jax.Array) -> jax.Array:
    """|S v|² and |A v|² [2]."""
    forward, transposed = jacobian_products(field, positions, vector)
    return jnp.stack([jnp.sum((forward + transposed) ** 2), jnp.sum((forward - transposed) ** 2)]) / 4


def circle_work(field: Field, positions: jax.Array, plane: jax.Array) -> jax.Array:
    """∮ F·dr along a circle of LOOP_RADIUS around the positions, in a plane of two orthonormal displacements [2, nodes, 3]; eV."""

    def power(angle: jax.Array) -> jax.Array:
        cosine, sine = LOOP_RADIUS * jnp.cos(angle), LOOP_RADIUS * jnp.sin(angle)
        return jnp.sum(field(positions + cosine * plane[0] + sine * plane[1]) * (cosine * plane[1] - sine * plane[0]))

    angles = 2 * jnp.pi * jnp.arange(_POINTS, dtype=positions.dtype) / _POINTS
    return 2 * jnp.pi * jnp.mean(jax.lax.map(power, angles))


def random_planes(count: int, num_atoms: int, num_nodes: int, seed: int) -> np.ndarray:
    """Pairs of orthonormal displacements of the atoms [count, 2, nodes, 3], evenly distributed."""
    rng = np.random.default_rng(seed)
    planes = np.zeros((count, 2, num_nodes, 3))
    for plane in planes:
        basis, _ = np.linalg.qr(rng.normal(size=(3 * num_atoms, 2)))
        plane[:, :num_atoms] = basis.T.reshape(2, num_atoms, 3)
    return planes


def summarize_parts(parts: np.ndarray, work: np.ndarray, probes: Probes) -> Conservativity:
    """Squares of the two parts [probes, 2], eV²/Å⁴, and work of loops, eV → the summary."""
    symmetric, antisymmetric = probes.weight * parts.sum(axis=0)
    total = symmetric + antisymmetric
    share = float(antisymmetric / total) if total else 0.0
    # Error of a ratio of means, to first order.
    deviations = parts[:, 1] - share * parts.sum(axis=1)
    error = math.sqrt(np.sum(deviations**2)) * probes.weight / total if total and not probes.is_exact else 0.0
    return Conservativity(
        asymmetry=2 * math.sqrt(share),
        rest_share=share,
        rest_share_error=float(error),
        jacobian_norm=math.sqrt(total),
        loop_work=1000 * math.sqrt(np.mean(work**2)),
        num_probes=len(parts),
        is_exact=probes.is_exact,
    )


def measure_conservativity(model: Potential, graphs: Sequence[Graph]) -> Iterator[Conservativity]:
    """Measure every graph, with all basis vectors or, if it is large, with random ones."""
    predict, dtype = make_predict(model.graphdef), model.dtype

    def field_of(params: Params, batch: GraphBatch) -> Field:
        return lambda displacements: predict(params, displaced(batch, displacements)).forces

    def parts_of(params: Params, batch: GraphBatch, vector: jax.Array) -> jax.Array:
        return squared_parts(field_of(params, batch), jnp.zeros_like(vector), vector)

    def work_of(params: Params, batch: GraphBatch, plane: jax.Array) -> jax.Array:
        return circle_work(field_of(params, batch), jnp.zeros_like(plane[0]), plane)

    parts_step, work_step = CompiledStep(parts_of, "products with the Jacobian"), CompiledStep(work_of, "the work around a loop")
    loader = BatchLoader(graphs, 1, choose_buckets(graphs, 1, shuffle=False), dtype, shuffle=False)
    for graph, batch in zip(graphs, loader.epoch(0), strict=True):
        probes = _probes(graph.num_nodes, batch.num_nodes)
        parts = np.array([parts_step(model.params, batch, vector) for vector in probes.vectors.astype(dtype)], np.float64)
        planes = random_planes(_NUM_LOOPS, graph.num_nodes, batch.num_nodes, seed=0).astype(dtype)
        yield summarize_parts(parts, np.array([work_step(model.params, batch, plane) for plane in planes], np.float64), probes)


def _probes(num_atoms: int, num_nodes: int) -> Probes:
    if num_atoms <= _MAX_EXACT_ATOMS:
        return basis_probes(num_atoms, num_nodes)
    return random_probes(_NUM_PROBES, num_atoms, num_nodes, seed=0)
