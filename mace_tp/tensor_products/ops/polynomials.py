"""Both sites of tensor products as sparse polynomials, for the compiled kernel."""

import dataclasses
from collections.abc import Iterable, Sequence

import e3nn_jax as e3nn
import numpy as np

from mace_tp.kernels.butterflies import linear_map
from mace_tp.kernels.polynomial import Builder, Operand, Polynomial, Term
from mace_tp.tensor_products.algebra.coupling_chains import Chain, link_coupling, parents_of
from mace_tp.tensor_products.algebra.irreps import irreps_of, rows_of
from mace_tp.tensor_products.algebra.paths import Path
from mace_tp.tensor_products.algebra.sampling import Samples


@dataclasses.dataclass(frozen=True)
class Message:
    """One path of an interaction: table · (product of radial weights) · node component · harmonic."""

    path: Path
    table: np.ndarray  # [node components, harmonics, output components]
    weights: tuple[int, ...]  # one or two


def message_polynomial(
    irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, num_weights: int, copies: Sequence[Sequence[Message]]
) -> Polynomial:
    """The message of an edge, as `InteractionPlan.polynomial` describes it.

    Args:
        irreps_node: of the sender's features.
        irreps_edge: of the harmonics.
        num_weights: of a pair.
        copies: for each irrep of the output, the messages that add up to it.
    """
    # A table contracted with harmonics is a matrix of scalars, which all channels share.
    operands = Operand(num_weights, index=0), Operand(irreps_node.dim, index=1, values_lead=True), Operand(irreps_edge.dim, is_scalar=True)
    builder = Builder(operands)
    weights, feats, harmonics = builder.inputs
    node_rows, edge_rows = rows_of(irreps_node), rows_of(irreps_edge)
    results: list[int] = []
    for messages in copies:
        terms: list[list[Term]] = [[] for _ in range(messages[0].path.out.dim)]
        for message in messages:
            weight = builder.add([Term(1.0, tuple(weights[i] for i in message.weights))])
            components = [builder.add([Term(1.0, (weight, value))]) for value in feats[node_rows[message.path.node]]]
            scalars = harmonics[edge_rows[message.path.edge]]
            for i, component in enumerate(components):
                for o, entries in enumerate(message.table[i].T):
                    if np.any(entries):
                        coupling = builder.add([Term(float(entries[j]), (scalars[j],)) for j in np.flatnonzero(entries)])
                        terms[o].append(Term(1.0, (coupling, component)))
        results += map(builder.add, terms)
    return builder.build([Operand(len(results), index=2, values_lead=True)], [results])


def chain_terms(
    builder: Builder, inputs: tuple[Sequence[int], Sequence[int]], chains: Sequence[Chain], irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps
) -> list[list[Term]]:
    """Terms of the symmetric contraction of a node (`PolynomialBasis.polynomial_terms`), from a weight for each chain and the features.

    The same sums as in `CGProductBasis`, where they are explained.
    """
    weights, feats = inputs
    factors = [feats[rows] for rows in irreps_in.slices()]

    def coupled(link: tuple[e3nn.Irrep, int, e3nn.Irrep], left: Sequence[int]) -> list[list[Term]]:
        irrep, factor, out = link
        table, right = link_coupling(irrep, irreps_of(irreps_in)[factor], out), factors[factor]
        return [[Term(float(entries[i, j]), (left[i], right[j])) for i, j in np.argwhere(entries)] for entries in np.moveaxis(table, 2, 0)]

    values: dict[Chain, Sequence[int]] = {Chain(irrep.ir, i): rows for i, (irrep, rows) in enumerate(zip(irreps_in, factors))}
    for chain in parents_of(chains):
        values[chain] = [builder.add(terms) for terms in coupled(chain.link, values[chain.before])]
    outputs: dict[e3nn.Irrep, list[list[Term]]] = {irrep.ir: [[] for _ in range(irrep.ir.dim)] for irrep in irreps_out}
    sums: dict[tuple, list[list[Term]]] = {}
    for weight, chain in zip(weights, chains, strict=True):
        components = values[chain.parent or chain]
        into = outputs[chain.irrep] if chain.parent is None else sums.setdefault(chain.link, [[] for _ in components])
        for terms, component in zip(into, components, strict=True):
            terms.append(Term(1.0, (weight, component)))
    for link, summed in sums.items():
        for terms, more in zip(outputs[link[2]], coupled(link, [builder.add(terms) for terms in summed]), strict=True):
            terms += more
    return [terms for irrep in irreps_out for terms in outputs[irrep.ir]]


def weighted_terms(irreps_out: e3nn.Irreps, parts: Iterable[tuple[e3nn.Irrep, int, Sequence[int]]]) -> list[list[Term]]:
    """For each component of irreps the terms weight · value of all parts; a part is an irrep, a weight and the values of the components."""
    outputs: dict[e3nn.Irrep, list[list[Term]]] = {irrep.ir: [[] for _ in range(irrep.ir.dim)] for irrep in irreps_out}
    for irrep, weight, values in parts:
        for terms, value in zip(outputs[irrep], values, strict=True):
            terms.append(Term(1.0, (weight, value)))
    return [terms for irrep in irreps_out for terms in outputs[irrep.ir]]


def sampled_powers(builder: Builder, feats: Sequence[int], samples: Samples, orders: Sequence[int]) -> dict[int, list[int]]:
    """Projected components of the powers, of orders ≥ 2, of the function with coefficients `feats`, by multiplication at sample points."""
    values = linear_map(builder, samples.values, feats)
    power, projected = values, {}
    for order in range(2, max(orders) + 1):
        power = [builder.add([Term(1.0, pair)]) for pair in zip(power, values, strict=True)]
        if order in orders:
            projected[order] = linear_map(builder, samples.projection, power)
    return projected


def coupled_squares(builder: Builder, feats: Sequence[int], samples: Samples) -> list[int]:
    """Projected components of the square, from products of two features.

    This takes half the operations of sample points, unless another order needs the points anyway.
    """
    table = np.einsum("mp,pi,pj->ijm", samples.projection, samples.values, samples.values, optimize=True)
    return bilinear_map(builder, table, feats, feats)


def bilinear_map(builder: Builder, table: np.ndarray, left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Σ table[i, j, m] left[i] right[j] for every m; equal products are computed once."""
    columns: dict[int, np.ndarray] = {}
    for i, j in np.argwhere(table.any(axis=2)):
        product = builder.add([Term(1.0, (left[i], right[j]))])
        columns[product] = columns.get(product, 0.0) + table[i, j]
    return linear_map(builder, np.reshape(list(columns.values()), (len(columns), table.shape[2])).T, list(columns))
