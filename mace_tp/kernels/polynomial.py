"""Sparse polynomials over channels: lists of sums of products, whose derivatives are lists of the same kind.

A polynomial maps the vectors (one number per channel) and scalars (one number for all channels) of an item to vectors and scalars; an item
is a node or an edge. Every value is assigned once: it is a sum of terms, and a term is a constant times one or two earlier values. Reverse
differentiation walks through the list backwards and builds another list (Griewank and Walther 2008, Evaluating Derivatives, chapter 3).
Therefore code that evaluates a polynomial also evaluates its derivatives of any order.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Operand:
    """An array that a polynomial reads or writes.

    With `index` None the array has one row per item. Otherwise `index` selects an index array: inputs are gathered by it, outputs are
    scatter-added. Differentiation exchanges the two.
    """

    size: int  # values per item
    index: int | None = None
    is_scalar: bool = False  # [rows, size], without channels; a scalar output is summed over channels
    values_lead: bool = False  # True: [size, rows, channels]; False: [rows, size, channels]

    def __post_init__(self) -> None:
        if self.is_scalar and (self.index is not None or self.values_lead):
            raise ValueError("a scalar operand has a row for each item, [items, size]; it is neither gathered nor summed by an index")

    def shape(self, num_rows: int, channels: int) -> tuple[int, ...]:
        """Return the shape of the array."""
        if self.is_scalar:
            return num_rows, self.size
        return (self.size, num_rows, channels) if self.values_lead else (num_rows, self.size, channels)

    def num_rows(self, shape: Sequence[int]) -> int:
        """Return the number of rows of an array of this shape."""
        return shape[1] if self.values_lead else shape[0]


@dataclasses.dataclass(frozen=True)
class Term:
    """A constant times one or two values."""

    constant: float
    factors: tuple[int, ...]


Sum = tuple[Term, ...]


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """A list of sums. Values are numbered: first the values of the inputs, then the sums in their order."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    sums: tuple[Sum, ...]
    results: tuple[tuple[int, ...], ...]  # for each output the numbers of its values

    def __hash__(self) -> int:
        return hash(self.key)

    @functools.cached_property
    def key(self) -> str:
        """A digest of everything that the polynomial computes."""
        return hashlib.sha256(repr((self.inputs, self.outputs, self.sums, self.results)).encode()).hexdigest()[:24]

    @functools.cached_property
    def input_values(self) -> list[range]:
        """The numbers of each input's values."""
        return _ranges(self.inputs)

    @property
    def num_inputs(self) -> int:
        """Number of values of all inputs together."""
        return sum(operand.size for operand in self.inputs)

    @property
    def numbered_sums(self) -> list[tuple[int, Sum]]:
        return list(enumerate(self.sums, self.num_inputs))

    @functools.cached_property
    def scalars(self) -> frozenset[int]:
        """Numbers of the values that are the same for all channels."""
        found = {value for operand, values in zip(self.inputs, self.input_values) if operand.is_scalar for value in values}
        for number, terms in self.numbered_sums:
            if all(factor in found for term in terms for factor in term.factors):
                found.add(number)
        return frozenset(found)

    @property
    def num_terms(self) -> int:
        """Number of terms of all sums, which is the length of the compiled function."""
        return sum(map(len, self.sums))

    def flops(self) -> int:
        """Operations per item and channel: one addition per term, one multiplication per further factor and per constant other than ±1."""
        vectors = (terms for number, terms in self.numbered_sums if number not in self.scalars)
        return sum(len(term.factors) + (abs(term.constant) != 1) for terms in vectors for term in terms)

    def derivative(self, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> "Polynomial":
        """Return the derivatives of Σ cotangent · output with respect to some inputs, as a polynomial.

        Args:
            outputs: positions of the outputs that have cotangents.
            inputs: positions of the inputs whose derivatives are wanted.

        Returns:
            A polynomial whose inputs are all inputs of this one and then the cotangents (operands like the outputs), and whose outputs are
            operands like the wanted inputs.
        """
        return _derivative(self, outputs, inputs)


@functools.cache
def _derivative(polynomial: Polynomial, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> Polynomial:
    builder = Builder([*polynomial.inputs, *(polynomial.outputs[i] for i in outputs)])
    new = {value: value for values in polynomial.input_values for value in values}  # numbers in the new polynomial
    for number, terms in polynomial.numbered_sums:
        new[number] = builder.add([Term(term.constant, tuple(new[factor] for factor in term.factors)) for term in terms])
    adjoints: dict[int, list[Term]] = {}
    for i, cotangents in zip(outputs, builder.inputs[len(polynomial.inputs) :], strict=True):
        for value, cotangent in zip(polynomial.results[i], cotangents, strict=True):
            adjoints.setdefault(value, []).append(Term(1.0, (cotangent,)))
    for number, terms in reversed(polynomial.numbered_sums):
        if number not in adjoints:
            continue
        adjoint = builder.add(adjoints[number])
        for term in terms:
            for position, factor in enumerate(term.factors):
                others = (*term.factors[:position], *term.factors[position + 1 :])
                adjoints.setdefault(factor, []).append(Term(term.constant, (adjoint, *(new[other] for other in others))))
    results = [[builder.add(adjoints.get(value, ())) for value in polynomial.input_values[i]] for i in inputs]
    return builder.build([polynomial.inputs[i] for i in inputs], results)


class Builder:
    """Collects the sums of a polynomial. Equal sums are kept once; sums that no result needs are dropped."""

    def __init__(self, inputs: Sequence[Operand]) -> None:
        self._operands = tuple(inputs)
        self.inputs = _ranges(inputs)
        self._num_inputs = sum(operand.size for operand in inputs)
        self._sums: list[Sum] = []
        self._known: dict[Sum, int] = {}

    def add(self, terms: Sequence[Term]) -> int:
        """Add the sum of some terms and return its number; a sum that equals an earlier value gets the number of that value.

        Terms with a factor that is zero are dropped.
        """
        zero = self._known.get(())
        merged: dict[tuple[int, ...], float] = {}
        for term in terms:
            if zero in term.factors:
                continue
            factors = tuple(sorted(term.factors))
            merged[factors] = merged.get(factors, 0.0) + term.constant
        key = tuple(Term(constant, factors) for factors, constant in sorted(merged.items()) if constant != 0)
        if len(key) == 1 and key[0].constant == 1 and len(key[0].factors) == 1:
            return key[0].factors[0]
        if key not in self._known:
            self._known[key] = self._num_inputs + len(self._sums)
            self._sums.append(key)
        return self._known[key]

    def build(self, outputs: Sequence[Operand], results: Sequence[Sequence[int]]) -> Polynomial:
        """Return the polynomial with these values as its outputs.

        Raises:
            ValueError: a scalar output does not vanish where all vectors do. It must, because it is summed over all channels, also over
                those of zeros with which the kernel fills up its registers.
        """
        vanishing = {v for operand, values in zip(self._operands, self.inputs, strict=True) if not operand.is_scalar for v in values}
        for number, terms in enumerate(self._sums, self._num_inputs):
            if all(vanishing.intersection(term.factors) for term in terms):
                vanishing.add(number)
        summed = {value for operand, values in zip(outputs, results, strict=True) if operand.is_scalar for value in values}
        if not summed <= vanishing:
            raise ValueError("a scalar output is a sum over channels of terms that each have a vector among their factors")
        needed = {value for values in results for value in values}
        for number, terms in reversed(list(enumerate(self._sums, self._num_inputs))):
            if number in needed:
                needed.update(factor for term in terms for factor in term.factors)
        new = {value: value for value in range(self._num_inputs)}
        kept: list[Sum] = []
        for number, terms in enumerate(self._sums, self._num_inputs):
            if number in needed:
                new[number] = self._num_inputs + len(kept)
                kept.append(tuple(Term(term.constant, tuple(new[factor] for factor in term.factors)) for term in terms))
        return Polynomial(self._operands, tuple(outputs), tuple(kept), tuple(tuple(new[value] for value in values) for values in results))


def _ranges(operands: Sequence[Operand]) -> list[range]:
    ends = np.cumsum([operand.size for operand in operands]).tolist()
    return [range(end - operand.size, end) for operand, end in zip(operands, ends, strict=True)]
