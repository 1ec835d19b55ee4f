"""Paths, reachable irreps and degrees of freedom of a plan, derived from its Clebsch-Gordan coordinates.

All functions evaluate the coordinates at a random point of the weights, where nothing vanishes by accident.
"""

from collections.abc import Callable, Sequence

import e3nn_jax as e3nn
import numpy as np

from mace_tp.tensor_products.algebra.paths import Path, paths_between
from mace_tp.tensor_products.algebra.symmetric_basis import Coupling, symmetric_couplings
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan, ProductBasisPlan

# Coordinates are of order one; a smaller one than this is a rounding error.
_ZERO = 1e-10


def interaction_paths(plan: InteractionPlan) -> tuple[Path, ...]:
    """The paths that take part, sorted by output, then node, then edge irrep."""
    return _present(paths_between(plan.irreps_node, plan.irreps_edge, plan.irreps_out), plan.coefficients(generic_point(plan.num_weights)))


def bilinear_paths(plan: BilinearPlan) -> tuple[Path, ...]:
    """The paths that take part, sorted by output, then first, then second irrep."""
    return _present(plan.paths, plan.coefficients())


def basis_couplings(plan: ProductBasisPlan) -> tuple[Coupling, ...]:
    """The couplings of the reduced symmetric basis that take part, by order, output irrep and index."""
    couplings = symmetric_couplings(plan.irreps_in, plan.irreps_out, plan.correlation)
    coordinates = plan.coefficients(generic_point(plan.num_weights))
    return tuple(coupling for coupling, coordinate in zip(couplings, coordinates, strict=True) if abs(coordinate) > _ZERO)


def reached_irreps(plan: ProductBasisPlan) -> set[e3nn.Irrep]:
    """Irreps of the output that some order reaches."""
    return {coupling.out for coupling in basis_couplings(plan)}


def interaction_dof(plan: InteractionPlan) -> int:
    """Dimension of the family of products that a channel can reach, including the linear layers around it.

    Those layers give one factor for each irrep of the nodes and one for each copy of the output ("expressivity" in Xie et al.
    2025). They are the same for all edges, so that at most `num_weights` of the dimensions depend on the distance.
    """
    paths = paths_between(plan.irreps_node, plan.irreps_edge, plan.irreps_out)
    num_copies, nodes = plan.irreps_out.num_irreps, [irrep.ir for irrep in plan.irreps_node]
    positions = [nodes.index(path.node) for path in paths]

    def coefficients(parameters: np.ndarray) -> np.ndarray:
        weights, after, before = np.split(parameters, np.cumsum([plan.num_weights, num_copies]))
        return after @ plan.coefficients(weights) * before[positions]

    return rank_of_map(coefficients, plan.num_weights + num_copies + len(nodes))


def bilinear_dof(plan: BilinearPlan) -> int:
    """Dimension of the family of bilinear maps that linear layers before and after the product reach, for one output of each irrep.

    "Expressivity" in Xie et al. 2025: parameters are a factor for each irrep of both features and for each copy of the output.
    """
    copies = plan.coefficients()
    firsts, seconds = ([irrep.ir for irrep in irreps] for irreps in (plan.irreps_1, plan.irreps_2))
    left = [firsts.index(path.node) for path in plan.paths]
    right = [seconds.index(path.edge) for path in plan.paths]

    def coefficients(parameters: np.ndarray) -> np.ndarray:
        after, of_first, of_second = np.split(parameters, np.cumsum([len(copies), len(firsts)]))
        return after @ copies * (of_first[left] * of_second[right])

    return rank_of_map(coefficients, len(copies) + len(firsts) + len(seconds))


def basis_dof(plan: ProductBasisPlan) -> int:
    """Dimension of the family of maps that an element and channel can reach.

    The linear layer before the product basis gives one factor for each irrep of the features; see `interaction_dof`.
    """
    couplings = symmetric_couplings(plan.irreps_in, plan.irreps_out, plan.correlation)
    irreps = [irrep.ir for irrep in plan.irreps_in]
    positions = [[irreps.index(factor) for factor in coupling.factors] for coupling in couplings]

    def coefficients(parameters: np.ndarray) -> np.ndarray:
        weights, before = parameters[: plan.num_weights], parameters[plan.num_weights :]
        return plan.coefficients(weights) * [np.prod(before[factors]) for factors in positions]

    return rank_of_map(coefficients, plan.num_weights + len(irreps))


def rank_of_map(function: Callable[[np.ndarray], np.ndarray], num_parameters: int) -> int:
    """Rank of the Jacobian of a polynomial map [parameters] → [values] at a random point, by central differences."""
    # The error of the differences is about 1e-9.
    point = generic_point(num_parameters)
    steps = 1e-4 * np.eye(num_parameters)
    jacobian = np.stack([(function(point + step) - function(point - step)) / 2e-4 for step in steps])
    return int(np.linalg.matrix_rank(jacobian, tol=1e-6 * max(np.abs(jacobian).max(initial=0), 1e-300)))


def generic_point(num_parameters: int) -> np.ndarray:
    """Parameters of order one and away from zero."""
    return np.random.default_rng(0).uniform(0.5, 1.5, num_parameters)


def _present(paths: Sequence[Path], coefficients: np.ndarray) -> tuple[Path, ...]:
    return tuple(path for path, column in zip(paths, coefficients.T, strict=True) if np.abs(column).max(initial=0) > _ZERO)
