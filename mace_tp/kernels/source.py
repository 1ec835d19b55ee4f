"""A polynomial as C++ source: a function of one item that goes through its channels, as many at a time as a register holds."""

import collections
import dataclasses

from mace_tp.kernels.polynomial import Operand, Polynomial, Term

# Statements of one function: twice as many take GCC three times as long.
_LONGEST = 6000
TYPES = {"float32": "float", "float64": "double"}

# Pointers are to the rows of an item, at its first channel. Scalars and sums are added to.
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
    """Source of the function `symbol(polynomial, dtype, channels)`."""
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
    """A line of the loop over channels, and the sums that it mentions; `defines` where it is the first one of a sum."""

    text: str
    sums: tuple[int, ...]
    defines: int | None = None


def _vector_statements(polynomial: Polynomial, names: dict[int, str]) -> list[_Statement]:
    """The statements for all vectors, the results included."""
    stores, started = _stores(polynomial, names), _started(polynomial)
    missing = {number: len(terms) for number, terms in polynomial.numbered_sums}
    statements: list[_Statement] = []
    for number, term in _in_turn(polynomial):
        # The product of scalars alone is no vector.
        start = f"{started[number]} + " if number in started else "V{} + " if _is_scalar(term, polynomial) else ""
        is_first = missing[number] == len(polynomial.sums[number - polynomial.num_inputs])
        text = f"v{number} {f'= {start}' if is_first else '+= '}{_product(term, names, polynomial.scalars)};"
        statements.append(_Statement(text, (number, *term.factors), number if is_first else None))
        missing[number] -= 1
        if missing[number] == 0:
            statements += [_Statement(line, (number,)) for line in stores.pop(number, [])]
    return statements + [_Statement(line, (number,)) for number, lines in stores.items() for line in lines]  # of inputs and scalars


def _in_functions(statements: list[_Statement]) -> list[str]:
    """The lines of all statements, in a function for each part of a loop that is too long for one.

    Compilers take time that grows faster than the length of a function. Sums that several parts mention are kept in memory.
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
        lines += [_line(statement, is_shared=count[statement.defines] > 1) for statement in part]
        lines.append("    }();")
    return lines


def _line(statement: _Statement, *, is_shared: bool = False) -> str:
    return f"    {'' if statement.defines is None or is_shared else 'V '}{statement.text}"


def _is_scalar(term: Term, polynomial: Polynomial) -> bool:
    return all(factor in polynomial.scalars for factor in term.factors)


def _stores(polynomial: Polynomial, names: dict[int, str]) -> dict[int, list[str]]:
    """For every value that is a result the statements that write it; of scalars, that add it to the sum over channels."""
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
    """For sums that are nothing but one result, added to by an index, its place: they start from what is there."""
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
    """The terms of all vectors, in an order in which few values are needed at a time, each with the number of the sum that it is added to.

    What a result is made of comes just before it; a value is added at once wherever else it is a factor and the other one is there.
    """
    sums = {number: terms for number, terms in polynomial.numbered_sums if number not in polynomial.scalars}
    users: dict[int, list[tuple[int, int]]] = {}  # of a value: sums and positions in them
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

    # A stack instead of recursion: chains are deeper than Python's.
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
    """Name of the function, which knows how far the values of a row are apart."""
    return f"polynomial_{polynomial.key}_{dtype}_{channels}"


def _place(kind: str, operand_number: int, position: int, operand: Operand) -> str:
    if operand.is_scalar:
        return f"{kind}{operand_number}[{position}]"
    const = "const " if kind == "i" else ""
    return f"(*({const}V*)({kind}{operand_number} + {position} * stride + c))"


def _product(term: Term, names: dict[int, str], scalars: frozenset[int]) -> str:
    """Constants and scalars come first, so that they are multiplied once for all channels."""
    constant = [] if term.constant == 1 else [f"T({term.constant!r})"]
    factors = sorted(term.factors, key=lambda factor: factor not in scalars)
    return " * ".join([*constant, *(names[factor] for factor in factors)])
