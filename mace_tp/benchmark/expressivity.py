"""Measures which irreps a tensor product couples, and how many independent maps its weights reach.

Both are measured numerically in float64, independently of the plans' own `coefficients`: a plan is evaluated on a basis, and its output is
projected onto the Clebsch-Gordan couplings. The residual of the projection measures any violation of equivariance.

"Interactability" and "expressivity" after Xie et al. 2025 ("The Price of Freedom").
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.graph import batch_of_edges
from mace_tp.tensor_products.algebra.analysis import rank_of_map
from mace_tp.tensor_products.algebra.irreps import rows_of
from mace_tp.tensor_products.algebra.paths import Path, path_coupling, paths_between
from mace_tp.tensor_products.algebra.symmetric_basis import Coupling, symmetric_couplings
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.cg import CGProductBasis
from mace_tp.tensor_products.plans import InteractionPlan, ProductBasisPlan

# Couplings below this fraction of the largest one count as zero.
_ZERO = 1e-9


@dataclasses.dataclass(frozen=True)
class BilinearReach:
    """The bilinear maps between irreps that a product reaches."""

    paths: tuple[Path, ...]  # all paths that O(3) allows
    strengths: np.ndarray  # [paths]: coefficient at generic weights, relative to the largest; zero for a path without coupling
    dof: int  # dimension of the family of maps that the weights and the linear layers before and after reach
    residual: float  # part of the map that is not a sum of couplings, relative to the largest value

    @property
    def num_coupled(self) -> int:
        return int(np.count_nonzero(self.strengths > _ZERO))


def bilinear_reach(product: TensorProduct, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> BilinearReach:
    """Measure a product in an interaction: features with `irreps_1`, harmonics with `irreps_2`.

    Raises:
        InputError: the product cannot multiply these irreps.
    """
    plan = product.interaction(irreps_1, irreps_2, irreps_out)
    paths = paths_between(irreps_1, irreps_2, irreps_out)
    probe = _bilinear_probe(plan, irreps_1, irreps_2)
    copies = [irrep.ir for irrep in plan.irreps_out for _ in range(irrep.mul)]
    firsts = [irrep.ir for irrep in irreps_1]
    positions = [firsts.index(path.node) for path in paths]

    @functools.lru_cache(maxsize=2)
    def projected(weights: tuple[float, ...]) -> tuple[np.ndarray, float]:
        return _project(probe(np.array(weights)), copies, paths, irreps_1, irreps_2)

    def coefficients(parameters: np.ndarray) -> np.ndarray:
        weights, after, before = np.split(parameters, np.cumsum([plan.num_weights, len(copies)]))
        return after @ projected(tuple(weights))[0] * before[positions]

    generic, residual = projected(tuple(np.random.default_rng(0).uniform(0.5, 1.5, plan.num_weights)))
    strengths = np.abs(generic).max(axis=0)
    dof = rank_of_map(coefficients, plan.num_weights + len(copies) + len(firsts))
    return BilinearReach(paths, np.where(strengths > _ZERO * strengths.max(), strengths / strengths.max(), 0), dof, residual)


def _bilinear_probe(plan: InteractionPlan, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from weights [num_weights] to the table [output components, second components, first components] of the map.

    It evaluates the plan with one channel per component of the first factor and one node per component of the second; every node receives
    one edge.
    """
    num_channels, num_nodes = irreps_1.dim, irreps_2.dim
    feats = np.repeat(np.eye(num_channels)[:, None], num_nodes, axis=1)
    receivers = np.repeat(np.arange(num_nodes), EDGE_BLOCK)
    is_real = np.arange(len(receivers)) % EDGE_BLOCK == 0
    attributes = np.eye(num_nodes)[receivers]
    batch = batch_of_edges(receivers, receivers, is_real, num_nodes)
    call = jax.jit(plan.__call__)

    def table(weights: np.ndarray) -> np.ndarray:
        radial = is_real[:, None, None] * weights[:, None] * np.ones(num_channels)
        return np.asarray(call(radial, feats, attributes, batch))

    return table


def _project(
    table: np.ndarray, copies: Sequence[e3nn.Irrep], paths: Sequence[Path], irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps
) -> tuple[np.ndarray, float]:
    """Project a table [output, second, first components] on the couplings; return path coefficients [copies, paths] and the residual."""
    first, second = rows_of(irreps_1), rows_of(irreps_2)
    coefficients, left = np.zeros((len(copies), len(paths))), table.copy()
    start = 0
    for number, out in enumerate(copies):
        rows = slice(start, start + out.dim)
        for i, path in enumerate(paths):
            if path.out == out:
                coupling = path_coupling(path).transpose(2, 1, 0)
                block = rows, second[path.edge], first[path.node]
                coefficients[number, i] = np.vdot(coupling, table[block]) / out.dim
                left[block] -= coefficients[number, i] * coupling
        start = rows.stop
    return coefficients, float(np.abs(left).max() / np.abs(table).max())


@dataclasses.dataclass(frozen=True)
class OrderReach:
    """The couplings that a product basis reaches at one order, for one output irrep."""

    order: int
    out: e3nn.Irrep
    num_couplings: int  # all couplings of the reduced symmetric basis
    num_multisets: int  # multisets of factors that have a coupling
    num_reached: int  # multisets that the product couples at generic weights
    dof: int  # dimension of the family of maps that the weights and the linear layer before reach


@dataclasses.dataclass(frozen=True)
class BasisReach:
    """The symmetric powers that a product reaches."""

    orders: tuple[OrderReach, ...]
    dof: int  # of all orders together
    residual: float  # part of the map that is not a sum of couplings, relative to the largest value


def basis_reach(product: TensorProduct, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> BasisReach:
    """Measure a product in a product basis.

    Raises:
        InputError: the product cannot make these powers.
    """
    plan = product.product_basis(irreps_in, irreps_out, correlation)
    couplings = symmetric_couplings(irreps_in, irreps_out, correlation)
    probe = _basis_probe(plan, irreps_in, irreps_out, correlation)
    irreps = [irrep.ir for irrep in irreps_in]
    factors = [[irreps.index(factor) for factor in coupling.factors] for coupling in couplings]

    def coordinates(parameters: np.ndarray) -> np.ndarray:
        weights, before = parameters[: plan.num_weights], parameters[plan.num_weights :]
        return probe(weights)[0] * [np.prod(before[positions]) for positions in factors]

    num_parameters = plan.num_weights + len(irreps)
    generic, residual = probe(np.random.default_rng(0).uniform(0.5, 1.5, plan.num_weights))
    orders = []
    for order in range(1, correlation + 1):
        for out in irreps_out:
            members = [i for i, coupling in enumerate(couplings) if len(coupling.factors) == order and coupling.out == out.ir]
            if members:
                dof = rank_of_map(lambda parameters, members=members: coordinates(parameters)[members], num_parameters)
                orders.append(_order_reach(order, out.ir, [couplings[i] for i in members], generic[members], np.abs(generic).max(), dof))
    return BasisReach(tuple(orders), rank_of_map(coordinates, num_parameters), residual)


def _order_reach(
    order: int, out: e3nn.Irrep, couplings: Sequence[Coupling], coordinates: np.ndarray, largest: float, dof: int
) -> OrderReach:
    reached = {coupling.factors for coupling, value in zip(couplings, coordinates, strict=True) if abs(value) > _ZERO * largest}
    multisets = {coupling.factors for coupling in couplings}
    return OrderReach(order, out, len(couplings), len(multisets), len(reached), dof)


def _basis_probe(
    plan: ProductBasisPlan, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int
) -> Callable[[np.ndarray], tuple[np.ndarray, float]]:
    """Return a function from weights [num_weights] to (coordinates [couplings] in the reduced symmetric basis, residual).

    The coordinates are a least-squares fit over random features.
    """
    reference = CGProductBasis(irreps_in, irreps_out, correlation)
    num_couplings = reference.num_weights
    # Every output component of a sample is an equation. With three times as many samples as couplings the fit has a residual.
    feats = np.random.default_rng(1).normal(size=(irreps_in.dim, 3 * num_couplings, 1))
    species = np.zeros(feats.shape[1], np.int32)
    samples = jnp.asarray(np.repeat(feats, num_couplings, axis=2))
    design = np.asarray(jax.jit(reference.__call__)(np.eye(num_couplings)[:, None], samples, species)).reshape(-1, num_couplings)
    inverse = np.linalg.pinv(design)
    call = jax.jit(plan.__call__)

    def coordinates(weights: np.ndarray) -> tuple[np.ndarray, float]:
        values = np.asarray(call(weights[:, None, None], feats, species)).reshape(-1)
        solution = inverse @ values
        return solution, float(np.abs(design @ solution - values).max() / np.abs(values).max())

    return coordinates
