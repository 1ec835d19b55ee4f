"""Plans: the operations that MACE asks of a tensor product, prepared for given irreps.

A plan is made once, when the model is built. It holds static tables and no parameters, and maps arrays to arrays. Features are
[components, nodes, channels]. Components (the rows of the irreps, in e3nn's order) lead, so that channel mixing is a matrix product
and one component of all nodes is contiguous. Copies of one irrep follow each other: [copy, m].

Every plan states its function: `coefficients` are the Clebsch-Gordan coordinates of its weights, that is, the weights with which `cg`
computes the same function. `algebra/analysis.py` derives paths, reachable irreps and degrees of freedom from them.
"""

import abc
import dataclasses
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.graph import GraphBatch
from mace_tp.kernels.polynomial import Polynomial
from mace_tp.tensor_products.algebra.irreps import split_irreps
from mace_tp.tensor_products.algebra.paths import Path, path_coupling, paths_between
from mace_tp.tensor_products.ops.outer_products import outer_products
from mace_tp.tensor_products.ops.sparse_product import total


class InteractionPlan(abc.ABC):
    """Gather, multiply, scatter: for each node the sum over its edges of the product of sender features and harmonics."""

    irreps_node: e3nn.Irreps  # of the sender's features, multiplicity one
    irreps_edge: e3nn.Irreps  # of the harmonics
    irreps_out: e3nn.Irreps  # copies of one irrep follow each other, sorted
    num_weights: int  # per edge and channel

    @abc.abstractmethod
    def __call__(self, weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array, batch: GraphBatch) -> jax.Array:
        """Sum of the messages at every receiver [irreps_out.dim, nodes, channels].

        Args:
            weights: radial [pairs, num_weights, channels]; both edges of a pair have the same. Exactly zero on padded pairs.
            node_feats: [components, nodes, channels].
            edge_attrs: harmonics [edges, components].
            batch: the edges; only senders, receivers, pairs and the mask of the edges are read.
        """

    @abc.abstractmethod
    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """Clebsch-Gordan coordinates of the weights.

        Args:
            weights: [num_weights, ...], float64.

        Returns:
            For every copy of an irrep in `irreps_out` the weight of every path of
            `paths_between(irreps_node, irreps_edge, irreps_out)` in that copy [copies, paths, ...]; zero where the irreps differ.
        """

    def polynomial(self) -> Polynomial | None:
        """The message of one edge as a sparse polynomial, which the compiled kernel evaluates; None if there is no such form.

        Inputs are the pair's weights, the sender's features and the edge's harmonics, which are scalars. The output is summed by
        receivers. The index arrays are pairs, senders, receivers.
        """
        return None


@dataclasses.dataclass(frozen=True)
class WeightedPolynomial:
    """A product basis as a sparse polynomial, and the weights that go into it."""

    polynomial: Polynomial  # of weights of the node's element and of the node's features; index array: species
    weights: Callable[[jax.Array], jax.Array]  # weights of the plan → weights of the polynomial, both [num_weights, elements, channels]


class ProductBasisPlan(abc.ABC):
    """Symmetric powers of a node's features, up to the correlation order, with element-dependent weights."""

    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    correlation: int
    weight_scales: tuple[float, ...]  # standard deviation of each weight at initialization

    @property
    def num_weights(self) -> int:
        """Weights per element and channel."""
        return len(self.weight_scales)

    @abc.abstractmethod
    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        """Product basis [irreps_out.dim, nodes, channels].

        Args:
            weights: [num_weights, elements, channels].
            node_feats: A-basis [components, nodes, channels].
            species: element index of each node [nodes], int.
        """

    @abc.abstractmethod
    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """Clebsch-Gordan coordinates of the weights.

        Args:
            weights: [num_weights, ...], float64.

        Returns:
            Coordinates [couplings, ...] in the reduced symmetric basis, in the order of `symmetric_couplings`.
        """

    def polynomial(self) -> WeightedPolynomial | None:
        """The same map as a sparse polynomial, which the compiled kernel evaluates; None if there is no such form."""
        return None


@dataclasses.dataclass(frozen=True)
class BilinearPlan:
    """The bilinear map by itself, without weights: the product of two features, entry by entry.

    This class evaluates the map path by path, from its coefficients. A subclass may know a faster way.
    """

    irreps_1: e3nn.Irreps  # multiplicity one
    irreps_2: e3nn.Irreps  # multiplicity one
    irreps_out: e3nn.Irreps  # copies of one irrep follow each other, sorted
    rows: tuple[tuple[float, ...], ...]  # the coefficients

    @property
    def paths(self) -> tuple[Path, ...]:
        return paths_between(self.irreps_1, self.irreps_2, self.irreps_out)

    def coefficients(self) -> np.ndarray:
        """For every copy of an irrep in `irreps_out` the weight of every path in it [copies, paths], as `cg` normalizes paths."""
        return np.array(self.rows).reshape(-1, len(self.paths))

    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """Products [irreps_out.dim, entries] of features [irreps_1.dim, entries] and [irreps_2.dim, entries]."""
        copies, positions = np.nonzero(self.coefficients())
        paths = [self.paths[i] for i in positions]
        tables = [self.rows[copy][i] * path_coupling(self.paths[i]) for copy, i in zip(copies, positions)]
        values = outer_products(paths, tables, split_irreps(first, self.irreps_1), split_irreps(second, self.irreps_2))
        parts: dict[int, list[jax.Array]] = {}
        for copy, value in zip(copies.tolist(), values, strict=True):
            parts.setdefault(copy, []).append(value)
        return jnp.concatenate([total(parts[copy]) for copy in range(len(self.rows))])
