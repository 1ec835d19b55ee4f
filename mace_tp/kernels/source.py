"""A polynomial as C++ source: a function of one item that loops over its channels, one register of channels at a time."""

import collections
import dataclasses

from mace_tp.kernels.polynomial import Operand, Polynomial, Term

# Statements per function: GCC takes three times as long for twice as many.
_LONGEST = 6000
TYPES = {"float32": "float", "float64": "double"}

# The pointers point to the rows of an item, at its first channel. The function adds to scalars and to sums, and overwrites other outputs.
_FRAME = """\
#include "vector.h"
typedef {type} T;
typedef Vector<T>::type V;
static const int lanes = Vector<T>::lanes;
static const int64_t stride = ({channels} + lanes - 1) / lanes * lanes;  // between the values of a row

static inline T total(V v) {{
  typedef T Quarter __attribute__((vector_size(16)));
  const int quarters = sizeof(V) / sizeof(Quarter);
  union {{ V v; Quarter q[quarters]; }} parts = {{v}};
  for (int n = quarters / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) parts.q[i] += parts.q[i + n];
  const Quarter q = parts.q[0];
  return {total};
}}

extern "C" void {name}(const T* const* in, T* const* out, int64_t blocks) {{
{scalars}
{sums}
  for (int64_t c = 0; c < blocks * lanes; c += lanes) {{
{vectors}
  }}
{totals}
}}
"""


def source(polynomial: Polynomial, dtype: str, channels: int) -> str:
    """Return the source of the function that is named `symbol(polynomial, dtype, channels)`."""
    names, scalars = {}, []
    for i, (operand, values) in enumerate(zip(polynomial.inputs, polynomial.input_values, strict=True)):
        scalars.append(f"  const T* __restrict__ const i{i} = in[{i}];")
        names |= {value: _place("i", i, position, operand) for position, value in enumerate(values)}
    for i in range(len(polynomial.outputs)):
        scalars.append(f"  T* __restrict__ const o{i} = out[{i}];")
    for number, terms in polynomial.numbered_sums:
        names[number] = f"v{number}"
        if number in polynomial.scalars:
            scalars.append(f"  const T v{number} = {' + '.join(_product(term, names, polynomial.scalars) for term in terms) or 'T(0)'};")
    summed = [(i, position) for i, operand in enumerate(polynomial.outputs) if operand.is_scalar for position in range(operand.size)]
    total = "q[0] + q[1]" if dtype == "float64" else "(q[0] + q[2]) + (q[1] + q[3])"
    return _FRAME.format(
        type=TYPES[dtype],
        channels=channels,
        name=symbol(polynomial, dtype, channels),
        total=total,
        scalars="\n".join(scalars),
        sums="\n".join(f"  V s{i}_{position} = {{}};" for i, position in summed),
        vectors="\n".join(_in_functions(_vector_statements(polynomial, names))),
        totals="\n".join(f"  o{i}[{position}] += total(s{i}_{position});" for i, position in summed),
    )


@dataclasses.dataclass(frozen=True)
class _Statement:
    """A line of the loop over channels."""

    text: str
    sums: tuple[int, ...]  # the values that it mentions
    defines: int | None = None  # the sum whose first statement this is


def _vector_statements(polynomial: Polynomial, names: dict[int, str]) -> list[_Statement]:
    """Return the statements that compute all vectors and store the results."""
    stores, started = _stores(polynomial, names), _started(polynomial)
    missing = {number: len(terms) for number, terms in polynomial.numbered_sums}
    statements: list[_Statement] = []
    for number, term in _in_turn(polynomial):
        # A product of scalars is not a vector: adding it to a vector of zeros makes it one.
        start = f"{started[number]} + " if number in started else "V{} + " if _is_scalar(term, polynomial) else ""
        is_first = missing[number] == len(polynomial.sums[number - polynomial.num_inputs])
        text = f"v{number} {f'= {start}' if is_first else '+= '}{_product(term, names, polynomial.scalars)};"
        statements.append(_Statement(text, (number, *term.factors), number if is_first else None))
        missing[number] -= 1
        if missing[number] == 0:
            statements += [_Statement(line, (number,)) for line in stores.pop(number, [])]
    return statements + [_Statement(line, (number,)) for number, lines in stores.items() for line in lines]  # of inputs and scalars


def _in_functions(statements: list[_Statement]) -> list[str]:
    """Return the lines of all statements; a long loop is split into several functions.

    The time that a compiler takes grows faster than the length of a function. Sums that several parts use are kept in memory.
    """
    parts = [statements[i : i + _LONGEST] for i in range(0, len(statements), _LONGEST)]
    if len(parts) < 2:
        return [_line(statement) for statement in statements]
    defined = {statement.defines for statement in statements} - {None}
    used = [{number for statement in part for number in statement.sums} & defined for part in parts]
    count = collections.Counter(number for numbers in used for number in numbers)
    shared = sorted(number for number, times in count.items() if times > 1)
    lines = [f"    V {', '.join(f'v{number}' for number in shared)};"] if shared else []
    for part in parts:
        lines.append("    [&]() __attribute__((noinline)) {")
        lines += [_line(statement, is_shared=statement.defines in shared) for statement in part]
        lines.append("    }();")
    return lines


def _line(statement: _Statement, *, is_shared: bool = False) -> str:
    return f"    {'' if statement.defines is None or is_shared else 'V '}{statement.text}"


def _is_scalar(term: Term, polynomial: Polynomial) -> bool:
    return all(factor in polynomial.scalars for factor in term.factors)


def _stores(polynomial: Polynomial, names: dict[int, str]) -> dict[int, list[str]]:
    """Return for every result the statements that store it, or, for a scalar output, that add it to the sum over channels."""
    stores: dict[int, list[str]] = {}
    started = _started(polynomial)
    for i, (operand, values) in enumerate(zip(polynomial.outputs, polynomial.results, strict=True)):
        for position, value in enumerate(values):
            place = f"s{i}_{position}" if operand.is_scalar else _place("o", i, position, operand)
            adds = operand.is_scalar or (operand.index is not None and value not in started)
            vector = f"(V{{}} + {names[value]})" if value in polynomial.scalars else names[value]
            stores.setdefault(value, []).append(f"{place} {'+=' if adds else '='} {vector};")
    return stores


def _started(polynomial: Polynomial) -> dict[int, str]:
    """Return the places of sums that are used once, as a result that is scatter-added: such a sum starts from the value in its place."""
    factors = {factor for _, terms in polynomial.numbered_sums for term in terms for factor in term.factors}
    places = [
        (value, operand, _place("o", i, position, operand))
        for i, (operand, values) in enumerate(zip(polynomial.outputs, polynomial.results, strict=True))
        for position, value in enumerate(values)
    ]
    count = collections.Counter(value for value, _, _ in places)
    own = {number for number, terms in polynomial.numbered_sums if terms and number not in polynomial.scalars and number not in factors}
    return {value: place for value, operand, place in places if value in own and count[value] == 1 and operand.index is not None}


def _in_turn(polynomial: Polynomial) -> list[tuple[int, Term]]:
    """Return the terms of all vectors, each with the number of its sum, in an order that keeps few values alive at a time.

    The terms of a result come just before it. Once a value is complete, every term that waited only for it follows at once.
    """
    sums = {number: terms for number, terms in polynomial.numbered_sums if number not in polynomial.scalars}
    users: dict[int, list[tuple[int, int]]] = {}  # for each value the terms that contain it: (sum, position)
    for number, terms in sums.items():
        for position, term in enumerate(terms):
            for factor in set(term.factors):
                users.setdefault(factor, []).append((number, position))
    waiting = {number: dict(enumerate(terms)) for number, terms in sums.items()}
    order: list[tuple[int, Term]] = []

    def is_there(value: int) -> bool:
        return not waiting.get(value)

    def add(number: int, position: int) -> None:
        order.append((number, waiting[number].pop(position)))
        if not waiting[number]:
            for user, place in users.get(number, ()):
                if place in waiting[user] and all(map(is_there, waiting[user][place].factors)):
                    add(user, place)

    # A stack instead of recursion, because chains of sums are longer than Python's recursion limit.
    stack = [value for values in reversed(polynomial.results) for value in reversed(values)]
    while stack:
        number = stack[-1]
        missing = next((f for t in waiting.get(number, {}).values() for f in t.factors if not is_there(f)), None)
        if missing is not None:
            stack.append(missing)
            continue
        stack.pop()
        for position in list(waiting.get(number, ())):
            if position in waiting[number]:
                add(number, position)
    return order


def symbol(polynomial: Polynomial, dtype: str, channels: int) -> str:
    """Return the name of the function. It contains the number of channels, which fixes the distance between a row's values."""
    return f"polynomial_{polynomial.key}_{dtype}_{channels}"


def _place(kind: str, operand_number: int, position: int, operand: Operand) -> str:
    if operand.is_scalar:
        return f"{kind}{operand_number}[{position}]"
    const = "const " if kind == "i" else ""
    return f"(*({const}V*)({kind}{operand_number} + {position} * stride + c))"


def _product(term: Term, names: dict[int, str], scalars: frozenset[int]) -> str:
    """Return a term as C++; constants and scalars come first, so that the compiler multiplies them once for all channels."""
    constant = [] if term.constant == 1 else [f"T({term.constant!r})"]
    factors = sorted(term.factors, key=lambda factor: factor not in scalars)
    return " * ".join([*constant, *(names[factor] for factor in factors)])
