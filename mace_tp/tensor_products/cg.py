"""Clebsch-Gordan tensor product: every path with its own weight. All other products are compared with it."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import ClassVar

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.graph import GraphBatch
from mace_tp.kernels.polynomial import Builder, Polynomial, Term
from mace_tp.tensor_products.algebra.coupling_chains import Chain, chain_basis, link_coupling, parents_of
from mace_tp.tensor_products.algebra.irreps import irreps_of, split_irreps
from mace_tp.tensor_products.algebra.paths import Path, path_coupling, paths_between
from mace_tp.tensor_products.algebra.symmetric_basis import symmetric_basis
from mace_tp.tensor_products.base import TensorProduct, require_reached
from mace_tp.tensor_products.ops.edge_sums import edge_weights, path_couplings, path_messages, sum_blocks
from mace_tp.tensor_products.ops.polynomial_basis import PolynomialBasis
from mace_tp.tensor_products.ops.polynomials import Message, chain_terms, message_polynomial
from mace_tp.tensor_products.ops.sparse_product import sparse_product
from mace_tp.tensor_products.plans import InteractionPlan


@dataclasses.dataclass(frozen=True)
class CG(TensorProduct):
    """Clebsch-Gordan: a weight per path in the interaction, the reduced symmetric contraction in the product basis."""

    name: ClassVar[str] = "cg"

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> "CGInteraction":
        return CGInteraction(irreps_node, irreps_edge, irreps_keep)

    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> "CGProductBasis":
        plan = CGProductBasis(irreps_in, irreps_out, correlation)
        require_reached(self.name, plan, plan.reached)
        return plan


@dataclasses.dataclass(frozen=True)
class CGInteraction(InteractionPlan):
    """m_i = Σ_j w_path(r_ij) sqrt(2l3+1) C[l1, l2, l3] h_j[l1] Y_ij[l2] for every path, each channel by itself."""

    irreps_node: e3nn.Irreps
    irreps_edge: e3nn.Irreps
    irreps_keep: e3nn.Irreps

    @functools.cached_property
    def _paths(self) -> tuple[Path, ...]:
        """Sorted by output irrep, then by node and edge irrep: ACEsuit's order of the weights."""
        return paths_between(self.irreps_node, self.irreps_edge, self.irreps_keep)

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return e3nn.Irreps([(1, path.out) for path in self._paths]).simplify()

    @property
    def num_weights(self) -> int:
        return len(self._paths)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """One copy of the output for every path."""
        return np.eye(len(weights)).reshape(len(weights), len(weights), *[1] * (weights.ndim - 1)) * weights

    def __call__(self, weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array, batch: GraphBatch) -> jax.Array:
        columns = edge_weights(weights, batch.edge_pair)
        tables = [path_coupling(path).transpose(1, 0, 2) for path in self._paths]
        feats, harmonics = split_irreps(node_feats, self.irreps_node), split_irreps(edge_attrs.T, self.irreps_edge)
        messages = path_messages(self._paths, path_couplings(self._paths, tables, harmonics), columns, feats, batch.senders)
        return sum_blocks(messages, batch.receivers, node_feats.shape[1])

    def polynomial(self) -> Polynomial | None:
        copies = [[Message(path, path_coupling(path), (i,))] for i, path in enumerate(self._paths)]
        return message_polynomial(self.irreps_node, self.irreps_edge, self.num_weights, copies)


@dataclasses.dataclass(frozen=True)
class CGProductBasis(PolynomialBasis):
    """B_l = Σ_ν Σ_η W[Z, ν, l, η] U_{ν l η} · A^⊗ν over the reduced symmetric basis (Batatia et al. 2022, eq. 10).

    Weights are ordered by order ν, then output irrep, then coupling η. The plan evaluates chains of pairwise couplings
    (`coupling_chains.py`), one component [nodes, channels] after another: A → the pairs that chains share → for every last link
    the sum of the chains that end in it, times their weights → the last link. All operations are elementwise in nodes and channels,
    so that XLA makes few passes over arrays that stay in the cache. With the plain form, monomials times tables, a training step takes
    20 times as long at this site (`benchmarks/benchmark_transforms.py`). `tests/tensor_products/test_cg.py` compares the plan with full
    symmetric tensors.

    `polynomial_terms` writes the same sums for the compiled kernel. Both forms are kept because XLA evaluates this one faster: with the
    polynomial and its derivatives in plain jax, a training step on two cores takes 0.97 times as long at l_max 3 with 32 channels, but
    1.11 times at l_max 2 with 64 channels and 2e, and 1.05 to 1.09 times the processor time until the first step. The same change of the
    interaction makes the step another 1.15 to 1.24 times as long.
    """

    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    correlation: int

    @property
    def reached(self) -> list[e3nn.Irrep]:
        """Irreps of the output that some order makes."""
        return [irrep for _, irrep in self._blocks]

    def num_couplings(self, order: int, irrep: e3nn.Irrep) -> int:
        return symmetric_basis(self.irreps_in, irrep, order).table.shape[0]

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """The weights are the coordinates."""
        return weights

    @functools.cached_property
    def weight_scales(self) -> tuple[float, ...]:
        """ACEsuit's initialization, 1 / (number of its couplings); in an orthonormal basis it is the same for every coupling."""
        scales: list[float] = []
        for order in range(1, self.correlation + 1):
            for irrep in self.irreps_out:
                basis = symmetric_basis(self.irreps_in, irrep.ir, order)
                scales += [1 / max(basis.num_trees, 1)] * basis.table.shape[0]
        return tuple(scales)

    @functools.cached_property
    def _chains(self) -> tuple[Chain, ...]:
        """For every weight a chain of couplings; the chains of an order and output irrep span the same space as its couplings."""
        return tuple(chain for order, irrep in self._blocks for chain in chain_basis(self.irreps_in, irrep, order)[0])

    @functools.cached_property
    def _to_chains(self) -> np.ndarray:
        """Weights of the chains from those of the couplings [chains, couplings], float64."""
        matrix, start = np.zeros((self.num_weights, self.num_weights)), 0
        for order, irrep in self._blocks:
            rows = slice(start, start + self.num_couplings(order, irrep))
            matrix[rows, rows] = chain_basis(self.irreps_in, irrep, order)[1]
            start = rows.stop
        return matrix

    @property
    def _blocks(self) -> list[tuple[int, e3nn.Irrep]]:
        blocks = itertools.product(range(1, self.correlation + 1), (irrep.ir for irrep in self.irreps_out))
        return [(order, irrep) for order, irrep in blocks if self.num_couplings(order, irrep)]

    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        # The weights of the few elements are transformed before they are gathered for every node.
        chain_weights = self.polynomial_weights(weights)[:, species]
        components = _unstacked(node_feats)
        factors = [components[rows] for rows in self.irreps_in.slices()]
        values = {Chain(irrep.ir, i): rows for i, (irrep, rows) in enumerate(zip(self.irreps_in, factors))}
        for chain in parents_of(self._chains):
            values[chain] = self._coupled(chain.link, values[chain.before], factors[chain.factor])
        outputs = {irrep.ir: [jnp.zeros_like(components[0])] * irrep.ir.dim for irrep in self.irreps_out}
        sums: dict[tuple, list[jax.Array]] = {}
        for chain, weight in zip(self._chains, _unstacked(chain_weights), strict=True):
            terms = [weight * component for component in values[chain.parent or chain]]
            if chain.parent is None:
                outputs[chain.irrep] = _added(outputs[chain.irrep], terms)
            else:  # a sum may mix orders, because the last link is linear in its left factor
                sums[chain.link] = _added(sums[chain.link], terms) if chain.link in sums else terms
        for link, summed in sums.items():
            _, factor, out = link
            outputs[out] = _added(outputs[out], self._coupled(link, summed, factors[factor]))
        return jnp.stack([component for irrep in self.irreps_out for component in outputs[irrep.ir]])

    def _coupled(self, link: tuple[e3nn.Irrep, int, e3nn.Irrep], left: list[jax.Array], right: list[jax.Array]) -> list[jax.Array]:
        return sparse_product(link_coupling(link[0], irreps_of(self.irreps_in)[link[1]], link[2]), left, right)

    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> list[list[Term]] | None:
        return chain_terms(builder, (weights, feats), self._chains, self.irreps_in, self.irreps_out)

    def polynomial_weights(self, weights: jax.Array) -> jax.Array:
        return jnp.einsum("cw,wzk->czk", self._to_chains.astype(weights.dtype), weights)


def _unstacked(array: jax.Array) -> list[jax.Array]:
    """The entries along the leading axis, by a split: its derivative is one concatenation, that of indices a sum of padded arrays."""
    return [entry[0] for entry in jnp.split(array, array.shape[0])]


def _added(left: list[jax.Array], right: list[jax.Array]) -> list[jax.Array]:
    return [a + b for a, b in zip(left, right, strict=True)]
