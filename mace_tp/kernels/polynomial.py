"""Sparse polynomials over channels as lists of sums of products, and their derivatives, which are such lists again.

A polynomial maps vectors (a number for each channel) and scalars (one number for all channels) of an item, such as a node or an edge,
to vectors and scalars. It is written in single assignments: every value is a sum of terms, each a constant times one or two earlier
values. Reverse differentiation goes through such a list backwards and makes another one (Griewank and Walther 2008, Evaluating
Derivatives, chapter 3), so that whatever evaluates one evaluates its derivatives of any order.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Operand:
    """An array that a polynomial reads or makes.

    With `index` None the array has a row for each item. Otherwise the items' rows are gathered by the index array of that number or, of an
    output, summed into: the derivative by what is gathered is summed, and the other way round.
    """

    size: int  # values that an item has of it
    index: int | None = None
    is_scalar: bool = False  # [rows, size], without channels; an output is summed over channels
    values_lead: bool = False  # [size, rows, channels], otherwise [rows, size, channels]

    def __post_init__(self) -> None:
        if self.is_scalar and (self.index is not None or self.values_lead):
            raise ValueError("a scalar operand has a row for each item, [items, size]; it is neither gathered nor summed by an index")

    def shape(self, num_rows: int, channels: int) -> tuple[int, ...]:
        """Shape of the array."""
        if self.is_scalar:
            return num_rows, self.size
        return (self.size, num_rows, channels) if self.values_lead else (num_rows, self.size, channels)

    def num_rows(self, shape: Sequence[int]) -> int:
        """Rows of an array of this shape."""
        return shape[1] if self.values_lead else shape[0]


@dataclasses.dataclass(frozen=True)
class Term:
    """A constant times one or two values."""

    constant: float
    factors: tuple[int, ...]


Sum = tuple[Term, ...]


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """Values are numbered: those of the inputs, then the sums, in their order."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    sums: tuple[Sum, ...]
    results: tuple[tuple[int, ...], ...]  # for each output its values

    def __hash__(self) -> int:
        return hash(self.key)

    @functools.cached_property
    def key(self) -> str:
        """A name for all that it computes."""
        return hashlib.sha256(repr((self.inputs, self.outputs, self.sums, self.results)).encode()).hexdigest()[:24]

    @functools.cached_property
    def input_values(self) -> list[range]:
        """Numbers of the values of each input."""
        return _ranges(self.inputs)

    @property
    def num_inputs(self) -> int:
        """Values of all inputs."""
        return sum(operand.size for operand in self.inputs)

    @property
    def numbered_sums(self) -> list[tuple[int, Sum]]:
        return list(enumerate(self.sums, self.num_inputs))

    @functools.cached_property
    def scalars(self) -> frozenset[int]:
        """The values that are the same for all channels."""
        found = {value for operand, values in zip(self.inputs, self.input_values) if operand.is_scalar for value in values}
        for number, terms in self.numbered_sums:
            if all(factor in found for term in terms for factor in term.factors):
                found.add(number)
        return frozenset(found)

    @property
    def num_terms(self) -> int:
        """Terms of all sums: how long the function is that evaluates it."""
        return sum(map(len, self.sums))

    def flops(self) -> int:
        """Operations for each item and channel: an addition for each term, a multiplication for each further factor and each constant."""
        vectors = (terms for number, terms in self.numbered_sums if number not in self.scalars)
        return sum(len(term.factors) + (abs(term.constant) != 1) for terms in vectors for term in terms)

    def derivative(self, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> "Polynomial":
        """Derivatives by some inputs of Σ cotangent · output over some outputs.

        Args:
            outputs: that have cotangents, by position.
            inputs: whose derivatives are wanted, by position.

        Returns:
            A polynomial of all inputs and of the cotangents, which are operands like the outputs, to operands like the inputs.
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
    """Collects the sums of a polynomial; equal ones are kept once, and those that lead to no result are dropped."""

    def __init__(self, inputs: Sequence[Operand]) -> None:
        self._operands = tuple(inputs)
        self.inputs = _ranges(inputs)
        self._num_inputs = sum(operand.size for operand in inputs)
        self._sums: list[Sum] = []
        self._known: dict[Sum, int] = {}

    def add(self, terms: Sequence[Term]) -> int:
        """Number of the value Σ terms; of a sum that is one value times one, the number of that value. Products with zero are dropped."""
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
        """The polynomial with these values as its outputs.

        Raises:
            ValueError: what is summed over channels is not zero where all vectors are, as it must be in channels that only fill up.
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
