"""A tensor product whose couplings are fixed numbers, so that only degrees have weights: its interface and its interaction."""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Self

import e3nn_jax as e3nn
import jax
import numpy as np

from mace_tp.graph import GraphBatch
from mace_tp.kernels.polynomial import Polynomial
from mace_tp.tensor_products.algebra.irreps import irreps_of, require_harmonics, rows_of, split_irreps
from mace_tp.tensor_products.algebra.paths import Path, paths_between
from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan
from mace_tp.tensor_products.base import TensorProduct, UnreachableIrrep, uncoupled
from mace_tp.tensor_products.ops.edge_sums import edge_weights, path_couplings, path_messages, sum_blocks
from mace_tp.tensor_products.ops.polynomials import Message, message_polynomial
from mace_tp.tensor_products.ops.sparse_product import total
from mace_tp.tensor_products.ops.table_map import table_map
from mace_tp.tensor_products.plans import BilinearPlan, InteractionPlan

# A coupling smaller than this is zero: couplings are sums of a few terms of order one.
ZERO = 1e-10


class FixedProduct(TensorProduct):
    """A bilinear map without weights of its own. A subclass has to provide the couplings; it may know its table by another way."""

    @abc.abstractmethod
    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        """Factor of the product relative to C[l1, l2, l3] of Frobenius norm one; zero unless the parities multiply."""

    def table(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
        """The product of component i and component j, its component m [i, j, m], float64; by default from the couplings.

        A product that overrides this states its function a second time, and the shared laws compare both statements.
        """
        table = np.zeros((irreps_1.dim, irreps_2.dim, irreps_out.dim))
        first, second, out = (rows_of(irreps) for irreps in (irreps_1, irreps_2, irreps_out))
        for path in paths_between(irreps_1, irreps_2, irreps_out):
            coupling = self.coupling(path.node, path.edge, path.out)
            table[first[path.node], second[path.edge], out[path.out]] = coupling * clebsch_gordan(path.node.l, path.edge.l, path.out.l)
        return table

    @property
    def num_terms(self) -> int:
        """Number of products, each with weights of its own, that the interaction adds up."""
        return 1

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> "DegreeWeighted":
        # Scalars times harmonics have one path for each degree, so that one term has all weights that there can be.
        is_scalar = irreps_node == e3nn.Irreps("0e")
        return DegreeWeighted(self, irreps_node, irreps_edge, irreps_keep, 1 if is_scalar else self.num_terms)

    def bilinear(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BilinearPlan:
        return FixedBilinear.of(self, irreps_1, irreps_2, irreps_keep)


@dataclasses.dataclass(frozen=True)
class FixedBilinear(BilinearPlan):
    """x ⊗ y with one copy of every output, by the product's table. A subclass evaluates as the product itself is defined."""

    product: FixedProduct

    @classmethod
    def of(cls, product: FixedProduct, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> Self:
        """Plan for two features with the irreps of harmonics.

        Raises:
            UnreachableIrrep: every coupling to `irreps_keep` is zero.
        """
        require_harmonics(irreps_1 + irreps_2)
        outs = list(dict.fromkeys(path.out for path in coupled_paths(product, irreps_1, irreps_2, irreps_keep)))
        if not outs:
            raise uncoupled(product.name, irreps_1, irreps_2, irreps_keep)
        irreps_out = e3nn.Irreps([(1, out) for out in outs])
        paths = paths_between(irreps_1, irreps_2, irreps_out)
        rows = np.zeros((len(outs), len(paths)))
        for i, path in enumerate(paths):
            coupling = product.coupling(path.node, path.edge, path.out) / path.out.dim**0.5
            rows[outs.index(path.out), i] = coupling if abs(coupling) > ZERO else 0.0
        return cls(irreps_1, irreps_2, irreps_out, tuple(map(tuple, rows.tolist())), product)

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """The product's table [output components, pairs of components]."""
        table = self.product.table(self.irreps_1, self.irreps_2, self.irreps_out)
        return np.ascontiguousarray(table.reshape(-1, self.irreps_out.dim).T)

    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        outer = (first[:, None] * second).reshape(self._table.shape[1], -1)
        return table_map(self._table)(outer)


def coupled_paths(product: FixedProduct, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> tuple[Path, ...]:
    """The paths that O(3) allows and whose couplings are not zero."""
    paths = paths_between(irreps_1, irreps_2, irreps_keep)
    return tuple(path for path in paths if abs(product.coupling(path.node, path.edge, path.out)) > ZERO)


@dataclasses.dataclass(frozen=True)
class DegreeWeighted(InteractionPlan):
    """m_i^r = Σ_j P(Σ_l1 a_r,l1(r_ij) h_j[l1], Σ_l2 b_r,l2(r_ij) Y_ij[l2]), r = 1 .. rank, with a fixed product P, channel by channel.

    The radial weights belong to the degrees of the two factors: a_r to the node's and b_r to the harmonics'. The first of a_r is one,
    because a common factor belongs to b_r. The degrees of the output have no radial weights, which would amount to one for every path,
    as in `cg`; the linear layer that follows weights them and adds up the `rank` copies. Weights are ordered by r, then the node's
    degrees without the first, then the harmonics' degrees.

    P is evaluated by its table, path by path, contracted with an edge's harmonics (`edge_sums.py`). On the sphere the interaction
    takes several times as long (`benchmarks/benchmark_transforms.py --site interaction`). Every output component has unit variance for
    independent factors and weights of unit variance.
    """

    product: FixedProduct
    irreps_node: e3nn.Irreps
    irreps_edge: e3nn.Irreps
    irreps_keep: e3nn.Irreps
    rank: int = 1

    def __post_init__(self) -> None:
        used = {path.node for path in self._paths}
        for irrep in self.irreps_node:
            if irrep.ir not in used:
                reason = f"{self.product.name} couples {irrep.ir} and harmonics ({self.irreps_edge}) to none of {self.irreps_keep}"
                raise UnreachableIrrep(f"model.hidden_irreps: in the interaction {reason}; drop it")

    @functools.cached_property
    def _paths(self) -> tuple[Path, ...]:
        return coupled_paths(self.product, self.irreps_node, self.irreps_edge, self.irreps_keep)

    @functools.cached_property
    def _edge_irreps(self) -> tuple[e3nn.Irrep, ...]:
        used = {path.edge for path in self._paths}
        return tuple(irrep.ir for irrep in self.irreps_edge if irrep.ir in used)

    @functools.cached_property
    def _outputs(self) -> tuple[e3nn.Irrep, ...]:
        return tuple(dict.fromkeys(path.out for path in self._paths))

    @property
    def irreps_out(self) -> e3nn.Irreps:
        return e3nn.Irreps([(self.rank, irrep) for irrep in self._outputs])

    @property
    def num_weights(self) -> int:
        return self.rank * self._weights_per_term

    @property
    def _weights_per_term(self) -> int:
        return len(self.irreps_node) - 1 + len(self._edge_irreps)

    @functools.cached_property
    def _strengths(self) -> tuple[float, ...]:
        """For every path its coupling relative to the component-normalized path sqrt(2l3+1) C of `cg`."""
        couplings = [self.product.coupling(path.node, path.edge, path.out) / path.out.dim**0.5 for path in self._paths]
        return tuple(self._scales[path.out] * coupling for path, coupling in zip(self._paths, couplings))

    @functools.cached_property
    def _scales(self) -> dict[e3nn.Irrep, float]:
        """Factors that give every output irrep unit variance; without them it is Σ g² / (2l3+1) over the paths that reach the irrep."""
        variances = dict.fromkeys(self._outputs, 0.0)
        for path in self._paths:
            variances[path.out] += self.product.coupling(path.node, path.edge, path.out) ** 2 / path.out.dim
        return {irrep: variance**-0.5 for irrep, variance in variances.items()}

    @functools.cached_property
    def _path_tables(self) -> tuple[np.ndarray, ...]:
        """For every path its block of the product's table [harmonic components, node components, output components]."""
        harmonics, outputs = (e3nn.Irreps([(1, irrep) for irrep in irreps]) for irreps in (self._edge_irreps, self._outputs))
        table = self.product.table(self.irreps_node, harmonics, outputs).transpose(1, 0, 2)
        rows = rows_of(harmonics), rows_of(self.irreps_node), rows_of(outputs)
        blocks = [self._scales[path.out] * table[rows[0][path.edge], rows[1][path.node], rows[2][path.out]] for path in self._paths]
        return tuple(np.where(np.abs(block) > ZERO, block, 0) for block in blocks)

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        terms = np.asarray(weights).reshape(self.rank, self._weights_per_term, *weights.shape[1:])
        paths = paths_between(self.irreps_node, self.irreps_edge, self.irreps_out)
        coordinates = np.zeros((len(self._outputs), self.rank, len(paths), *weights.shape[1:]))
        num_factors = len(self.irreps_node) - 1
        for r, term in enumerate(terms):
            nodes = dict(zip([irrep.ir for irrep in self.irreps_node], [np.ones(weights.shape[1:]), *term[:num_factors]]))
            edges = dict(zip(self._edge_irreps, term[num_factors:], strict=True))
            for path, strength in zip(self._paths, self._strengths):
                coordinates[self._outputs.index(path.out), r, paths.index(path)] = strength * nodes[path.node] * edges[path.edge]
        return coordinates.reshape(-1, *coordinates.shape[2:])

    def __call__(self, weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array, batch: GraphBatch) -> jax.Array:
        columns = edge_weights(weights, batch.edge_pair)
        feats, harmonics = split_irreps(node_feats, self.irreps_node), split_irreps(edge_attrs.T, self.irreps_edge)
        couplings, terms = path_couplings(self._paths, self._path_tables, harmonics), []
        for r in range(self.rank):
            path_weights = self._path_weights(columns[r * self._weights_per_term : (r + 1) * self._weights_per_term])
            messages = path_messages(self._paths, couplings, path_weights, feats, batch.senders)
            of_out = {out: [message for path, message in zip(self._paths, messages) if path.out == out] for out in self._outputs}
            terms.append({out: total(parts) for out, parts in of_out.items()})
        return sum_blocks([term[out] for out in self._outputs for term in terms], batch.receivers, node_feats.shape[1])

    def polynomial(self) -> Polynomial:
        tables = dict(zip(self._paths, (table.transpose(1, 0, 2) for table in self._path_tables), strict=True))
        num_factors, copies = len(self.irreps_node) - 1, []
        of_node = {irrep: (i,) for i, irrep in enumerate(irreps_of(self.irreps_node)[1:])}
        of_edge = {irrep: num_factors + i for i, irrep in enumerate(self._edge_irreps)}
        for out in self._outputs:
            for first in range(0, self.num_weights, self._weights_per_term):
                weights = {path: (*of_node.get(path.node, ()), of_edge[path.edge]) for path in self._paths if path.out == out}
                copies.append([Message(path, tables[path], tuple(first + i for i in pair)) for path, pair in weights.items()])
        return message_polynomial(self.irreps_node, self.irreps_edge, self.num_weights, copies)

    def _path_weights(self, weights: Sequence[jax.Array]) -> list[jax.Array]:
        """The weights of both factors of every path, from those of one term."""
        num_factors = len(self.irreps_node) - 1
        of_node = dict(zip(irreps_of(self.irreps_node)[1:], weights[:num_factors]))
        of_edge = dict(zip(self._edge_irreps, weights[num_factors:], strict=True))
        return [of_edge[path.edge] * of_node[path.node] if path.node in of_node else of_edge[path.edge] for path in self._paths]
