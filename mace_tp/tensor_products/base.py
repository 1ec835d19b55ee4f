"""The seam behind which tensor products are exchanged: what the two sites of MACE ask of one, and the bilinear map by itself.

A tensor product is a frozen dataclass of options. It plans once, when the model is built; a plan holds the static tables
and no parameters, and maps plain arrays to plain arrays. Features are [components, nodes, channels]: components (the rows
of the irreps, in e3nn's order) lead, so that channel mixing is a matrix product and one component of all nodes is
contiguous. Where irreps carry a multiplicity, the copies of one irrep follow each other: [copy, m].

Every plan says what function it computes: `coefficients` are the Clebsch-Gordan coordinates that its weights amount to.
"""

import abc
import dataclasses
from collections.abc import Sequence

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.errors import InputError
from mace_tp.graph import GraphBatch, gather
from mace_tp.kernels.polynomial import Builder, Operand, Polynomial, Term
from mace_tp.tensor_products.algebra.symmetric_basis import Coupling, symmetric_couplings


class UnreachableIrrep(InputError):
    """Hidden irreps that a tensor product cannot make or cannot use; another product may."""


@dataclasses.dataclass(frozen=True)
class Path:
    """One coupling of a node's irrep and a harmonic to an irrep of the message."""

    node: e3nn.Irrep
    edge: e3nn.Irrep
    out: e3nn.Irrep


class InteractionPlan(abc.ABC):
    """gather → product → scatter: sums, over the edges that a node receives, the product of sender features and harmonics."""

    irreps_out: e3nn.Irreps  # copies of one irrep follow each other, sorted
    num_weights: int  # per edge and channel

    @abc.abstractmethod
    def __call__(
        self,
        weights: Sequence[jax.Array] | jax.Array,
        node_feats: jax.Array,
        edge_attrs: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
    ) -> jax.Array:
        """Sum of messages at every receiver [irreps_out.dim, nodes, channels].

        Args:
            weights: num_weights arrays [edges, channels], radial; exactly zero on padded edges.
            node_feats: [components, nodes, channels].
            edge_attrs: harmonics [edges, components].
            senders: [edges], int.
            receivers: [edges], int; in blocks of EDGE_BLOCK equal entries, ascending.
        """

    def of_pairs(self, pair_weights: jax.Array, node_feats: jax.Array, edge_attrs: jax.Array, batch: GraphBatch) -> jax.Array:
        """The same from the weights of pairs of opposite edges [pairs, num_weights, channels], which both edges of a pair have."""
        num_pairs, num_weights, channels = pair_weights.shape
        # Split, not indexed: the derivative of a split is a concatenation, that of slices a sum of zero-padded arrays.
        columns = jnp.split(pair_weights.reshape(num_pairs, num_weights * channels), num_weights, axis=1)
        weights = [gather(column, batch.edge_pair) for column in columns]
        return self(weights, node_feats, edge_attrs, batch.senders, batch.receivers)

    def polynomial(self) -> Polynomial | None:
        """What the compiled kernel evaluates for every edge; None where there is no such form.

        Of the pair's weights, the sender's features and the edge's harmonics, scalars; the output is summed by receivers. Indices: pairs,
        senders, receivers.
        """
        return None

    @abc.abstractmethod
    def paths(self) -> tuple[Path, ...]:
        """The couplings that take part, sorted by output, then node, then edge irrep."""

    @abc.abstractmethod
    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """Clebsch-Gordan coordinates of the weights: what `cg` would need as weights to compute the same.

        Args:
            weights: [num_weights, ...], float64.

        Returns:
            For every copy of an irrep in `irreps_out` and every path [copies, paths, ...] the weight of the path in that copy.
        """

    @abc.abstractmethod
    def flops(self, num_edges: int, num_nodes: int, channels: int) -> int:
        """Floating-point operations of one evaluation; a multiplication and an addition are two."""

    @abc.abstractmethod
    def bytes(self, num_edges: int, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        """Bytes of the arrays that one evaluation reads and writes, of its intermediate arrays once each way."""

    def dof(self) -> int:
        """Dimension of the family of products that a channel can reach, the linear layers around it included.

        Those layers give one factor for each irrep of the nodes and one for each copy of the output ("expressivity" in Xie et al.
        2025); they are the same for all edges, so that no more than `num_weights` of the dimensions depend on the distance. It is the
        rank of the map from weights and factors to path coefficients, at a random point.
        """
        paths, copies = self.paths(), [irrep.ir for irrep in self.irreps_out for _ in range(irrep.mul)]
        nodes = sorted({path.node for path in paths})
        sizes = [self.num_weights, len(copies), len(nodes)]

        def reached(parameters: np.ndarray) -> np.ndarray:
            weights, after, before = np.split(parameters, np.cumsum(sizes)[:-1])
            return after @ self.coefficients(weights) * before[[nodes.index(path.node) for path in paths]]

        return rank_of_map(reached, sum(sizes))


class ProductBasisPlan(abc.ABC):
    """Symmetric powers of a node's features, up to the correlation order, with element-dependent weights."""

    irreps_in: e3nn.Irreps
    irreps_out: e3nn.Irreps
    correlation: int
    num_weights: int  # per element and channel
    weight_scales: tuple[float, ...]  # standard deviation of each weight at initialisation

    @abc.abstractmethod
    def __call__(self, weights: jax.Array, node_feats: jax.Array, species: jax.Array) -> jax.Array:
        """Product basis [irreps_out.dim, nodes, channels].

        Args:
            weights: [num_weights, elements, channels].
            node_feats: A-basis [components, nodes, channels].
            species: element index of each node [nodes], int.
        """

    def polynomial(self) -> Polynomial | None:
        """What the compiled kernel evaluates for every node; None where there is no such form.

        Of weights of the node's element, as `polynomial_weights` makes them, and of its features. Index: species.
        """
        builder = Builder([Operand(self.num_weights, index=0, values_lead=True), Operand(self.irreps_in.dim, values_lead=True)])
        components = self.polynomial_terms(builder, *builder.inputs)
        if components is None:
            return None
        return builder.build([Operand(self.irreps_out.dim, values_lead=True)], [[builder.add(terms) for terms in components]])

    def polynomial_terms(self, builder: Builder, weights: Sequence[int], feats: Sequence[int]) -> list[list[Term]] | None:
        """For each component of the output the terms that add up to it; None where there is no such form.

        Args:
            builder: of the polynomial; takes the sums that the terms are made of.
            weights: numbers of the weights of the node's element, as `polynomial_weights` makes them.
            feats: numbers of the components of the node's features.
        """
        return None

    def polynomial_weights(self, weights: jax.Array) -> jax.Array:
        """Weights of the polynomial [num_weights, elements, channels] from those of the plan."""
        return weights

    @abc.abstractmethod
    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """Clebsch-Gordan coordinates of the weights: what `cg` would need as weights to compute the same.

        Args:
            weights: [num_weights, ...], float64.

        Returns:
            Coordinates [couplings, ...] in the reduced symmetric basis, in the order of `symmetric_couplings`.
        """

    def paths(self) -> tuple[Coupling, ...]:
        """The couplings of the reduced symmetric basis that take part, by order, output irrep and index."""
        coordinates = self.coefficients(_generic_point(self.num_weights))
        named = zip(symmetric_couplings(self.irreps_in, self.irreps_out, self.correlation), coordinates, strict=True)
        return tuple(coupling for coupling, coordinate in named if abs(coordinate) > 1e-10)

    @abc.abstractmethod
    def reached(self) -> Sequence[e3nn.Irrep]:
        """Irreps of the output that are not zero for all weights."""

    @abc.abstractmethod
    def flops(self, num_nodes: int, channels: int) -> int:
        """Floating-point operations of one evaluation; a multiplication and an addition are two."""

    @abc.abstractmethod
    def bytes(self, num_nodes: int, channels: int, itemsize: int = 4) -> int:
        """Bytes of the arrays that one evaluation reads and writes, of its intermediate arrays once each way."""

    def dof(self) -> int:
        """Dimension of the family of maps that an element and channel can reach.

        The linear layer before it gives one factor for each irrep of the features; see `InteractionPlan.dof`.
        """
        couplings = symmetric_couplings(self.irreps_in, self.irreps_out, self.correlation)
        irreps = [irrep.ir for irrep in self.irreps_in]

        def reached(parameters: np.ndarray) -> np.ndarray:
            weights, before = parameters[: self.num_weights], parameters[self.num_weights :]
            return self.coefficients(weights) * [
                np.prod(before[[irreps.index(factor) for factor in coupling.factors]]) for coupling in couplings
            ]

        return rank_of_map(reached, self.num_weights + len(irreps))


class BinaryPlan(abc.ABC):
    """The bilinear map by itself, without weights: two features in, their product out, entry by entry.

    Both features are harmonics: irreps of natural parity (-1)^l, each of multiplicity one.
    """

    irreps_1: e3nn.Irreps
    irreps_2: e3nn.Irreps
    irreps_keep: e3nn.Irreps  # what was asked for
    irreps_out: e3nn.Irreps  # what there is of it; copies of one irrep follow each other, sorted

    @abc.abstractmethod
    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """Products [irreps_out.dim, entries] of features [irreps_1.dim, entries] and [irreps_2.dim, entries]."""

    @abc.abstractmethod
    def paths(self) -> tuple[Path, ...]:
        """The couplings that take part, sorted by output, then first, then second irrep."""

    @abc.abstractmethod
    def coefficients(self) -> np.ndarray:
        """For every copy of an irrep in `irreps_out` the weight of every path in it [copies, paths], as `cg` normalizes paths."""

    @abc.abstractmethod
    def flops(self, num_entries: int) -> int:
        """Floating-point operations of one evaluation; a multiplication and an addition are two."""

    @abc.abstractmethod
    def bytes(self, num_entries: int, itemsize: int = 4) -> int:
        """Bytes of the arrays that one evaluation reads and writes, of its intermediate arrays once each way."""

    def dof(self) -> int:
        """Dimension of the family of bilinear maps that linear layers before and after the product reach, for one output of each irrep.

        "Expressivity" in Xie et al. 2025: the rank of the map from a factor for each irrep of both features and for each copy of the
        output to path coefficients, at a random point.
        """
        paths, copies = self.paths(), self.coefficients()
        firsts, seconds = ([irrep.ir for irrep in irreps] for irreps in (self.irreps_1, self.irreps_2))
        sizes = [len(copies), len(firsts), len(seconds)]

        def reached(parameters: np.ndarray) -> np.ndarray:
            after, left, right = np.split(parameters, np.cumsum(sizes)[:-1])
            factors = left[[firsts.index(path.node) for path in paths]] * right[[seconds.index(path.edge) for path in paths]]
            return after @ copies * factors

        return rank_of_map(reached, sum(sizes))


class TensorProduct(abc.ABC):
    """One way to multiply equivariant features. Subclasses are frozen dataclasses whose fields are the options.

    An option carries in its metadata `examples`, values other than the default, with which the shared tests run, too.
    """

    def forms(self) -> "dict[str, TensorProduct]":
        """Execution forms, by name, that compute the same function of the same weights and among which a training chooses by
        measurement; empty for a product that is what it is."""
        return {}

    def packages(self) -> tuple[str, ...]:
        """Optional packages on whose versions its speed depends."""
        return ()

    def require_packages(self) -> None:  # noqa: B027 - most need none
        """Find out before anything is planned whether it can compute here.

        Raises:
            InputError: an optional package that it needs on this device is missing, or cannot be loaded.
        """

    @abc.abstractmethod
    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        """Plan for node features (multiplicity one) times harmonics; outputs other than `irreps_keep` are dropped.

        Raises:
            UnreachableIrrep: a product that lacks couplings of `cg` couples an irrep of the nodes to nothing that is kept.
        """

    @abc.abstractmethod
    def product_basis(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> ProductBasisPlan:
        """Plan for all orders 1 .. correlation of `irreps_in` (multiplicity one) that reach `irreps_out`.

        Raises:
            UnreachableIrrep: no order reaches an irrep of `irreps_out`.
        """

    @abc.abstractmethod
    def binary(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> BinaryPlan:
        """Plan for the product of two harmonics (multiplicity one); outputs other than `irreps_keep` are dropped.

        Raises:
            UnreachableIrrep: nothing that is kept is ever different from zero.
        """


def require_reached(name: str, plan: ProductBasisPlan) -> None:
    """Raise UnreachableIrrep for the first irrep of the output that no order of the plan reaches."""
    reached = plan.reached()
    for irrep in plan.irreps_out:
        if irrep.ir not in reached:
            reason = f"no product of up to {plan.correlation} factors of {plan.irreps_in} reaches {irrep.ir} with {name}"
            raise UnreachableIrrep(f"model.hidden_irreps: {reason}; drop it, or raise model.l_max or model.correlation")


def require_couplings(name: str, plan: BinaryPlan) -> None:
    """Raise UnreachableIrrep for a bilinear map that is zero."""
    if not plan.paths():
        raise UnreachableIrrep(f"{name} couples {plan.irreps_1} and {plan.irreps_2} to none of {plan.irreps_keep}")


def paths_between(irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> tuple[Path, ...]:
    """All couplings that O(3) allows, sorted by output irrep, then by first and second irrep: ACEsuit's order."""
    paths = [Path(left.ir, right.ir, out) for left in irreps_1 for right in irreps_2 for out in left.ir * right.ir if out in irreps_keep]
    return tuple(sorted(paths, key=lambda path: (path.out.l, path.out.p)))


def rank_of_map(function, num_parameters: int) -> int:
    """Rank of the Jacobian of a polynomial map [parameters] → [values] at a random point, by central differences."""
    # The error of the differences is about 1e-9.
    point = _generic_point(num_parameters)
    steps = 1e-4 * np.eye(num_parameters)
    jacobian = np.stack([(function(point + step) - function(point - step)) / 2e-4 for step in steps])
    return int(np.linalg.matrix_rank(jacobian, tol=1e-6 * max(np.abs(jacobian).max(initial=0), 1e-300)))


def _generic_point(num_parameters: int) -> np.ndarray:
    """Parameters of order one and away from zero, so that nothing vanishes by accident."""
    return np.random.default_rng(0).uniform(0.5, 1.5, num_parameters)
