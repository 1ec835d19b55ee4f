"""Both sites of Clebsch-Gordan products as sparse polynomials, for the compiled kernel."""

import dataclasses
from collections.abc import Sequence

import e3nn_jax as e3nn
import numpy as np

from mace_tp.kernel.polynomial import Builder, Operand, Polynomial, Term
from mace_tp.tensor_products.base import Path
from mace_tp.tensor_products.coupling_chains import Chain, link_coupling, parents_of
from mace_tp.tensor_products.irreps import rows_of


@dataclasses.dataclass(frozen=True)
class Message:
    """One path of an interaction: table · (product of radial weights) · node component · harmonic."""

    path: Path
    table: np.ndarray  # [node components, harmonics, output components]
    weights: tuple[int, ...]  # one or two


def message_polynomial(
    irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, num_weights: int, copies: Sequence[Sequence[Message]]
) -> Polynomial:
    """What an edge sends: as `InteractionPlan.polynomial` tells.

    Args:
        irreps_node: of the sender's features.
        irreps_edge: of the harmonics.
        num_weights: of a pair.
        copies: for each irrep of the output, the messages that it is the sum of.
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


def chain_polynomial(chains: Sequence[Chain], irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps) -> Polynomial:
    """The symmetric contraction of a node, with a weight for each chain: as `ProductBasisPlan.polynomial` tells.

    The same sums as in `CGProductBasis`, which explains them.
    """
    builder = Builder([Operand(len(chains), index=0, values_lead=True), Operand(irreps_in.dim, values_lead=True)])
    weights, feats = builder.inputs
    factors = [feats[rows] for rows in irreps_in.slices()]

    def coupled(link: tuple[e3nn.Irrep, int, e3nn.Irrep], left: Sequence[int]) -> list[list[Term]]:
        irrep, factor, out = link
        table, right = link_coupling(irrep, irreps_in[factor].ir, out), factors[factor]
        return [[Term(float(entries[i, j]), (left[i], right[j])) for i, j in np.argwhere(entries)] for entries in np.moveaxis(table, 2, 0)]

    values: dict[Chain, Sequence[int]] = {Chain(irrep.ir, i): rows for i, (irrep, rows) in enumerate(zip(irreps_in, factors))}
    for chain in parents_of(chains):
        values[chain] = [builder.add(terms) for terms in coupled(chain.link, values[chain.parent])]
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
    results = [builder.add(terms) for irrep in irreps_out for terms in outputs[irrep.ir]]
    return builder.build([Operand(irreps_out.dim, values_lead=True)], [results])
