"""A polynomial as C++ source: a function of one item that goes through its channels, as many at a time as a register holds."""

from mace_tp.kernel.polynomial import Operand, Polynomial, Term

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
  for (int64_t c = 0; c < blocks * lanes; c += lanes) {{
{vectors}
  }}
}}
"""


def source(polynomial: Polynomial, dtype: str, channels: int) -> str:
    """Source of the function `symbol(polynomial, dtype, channels)`."""
    names, scalars, vectors = {}, [], []
    for i, (operand, values) in enumerate(zip(polynomial.inputs, polynomial.input_values, strict=True)):
        scalars.append(f"  const T* __restrict__ const i{i} = in[{i}];")
        names |= {value: _place("i", i, position, operand) for position, value in enumerate(values)}
    for i in range(len(polynomial.outputs)):
        scalars.append(f"  T* __restrict__ const o{i} = out[{i}];")
    for number, terms in polynomial.numbered_sums:
        names[number] = f"v{number}"
        if number in polynomial.scalars:
            scalars.append(f"  const T v{number} = {' + '.join(_product(term, names, polynomial.scalars) for term in terms) or 'T(0)'};")
    stores = _stores(polynomial, names)
    missing = {number: len(terms) for number, terms in polynomial.numbered_sums}
    for number, term in _in_turn(polynomial):
        # The product of scalars alone is no vector.
        zero = "V{} + " if all(factor in polynomial.scalars for factor in term.factors) else ""
        is_first = missing[number] == len(polynomial.sums[number - polynomial.num_inputs])
        vectors.append(f"    {f'V v{number} = {zero}' if is_first else f'v{number} +='} {_product(term, names, polynomial.scalars)};")
        missing[number] -= 1
        if missing[number] == 0:
            vectors += stores.pop(number, [])
    vectors += [line for lines in stores.values() for line in lines]  # of inputs and scalars
    total = "q[0] + q[1]" if dtype == "float64" else "(q[0] + q[2]) + (q[1] + q[3])"
    return _FRAME.format(
        type=TYPES[dtype],
        channels=channels,
        name=symbol(polynomial, dtype, channels),
        total=total,
        scalars="\n".join(scalars),
        vectors="\n".join(vectors),
    )


def _stores(polynomial: Polynomial, names: dict[int, str]) -> dict[int, list[str]]:
    """For every value that is a result the statements that write it."""
    stores: dict[int, list[str]] = {}
    for i, (operand, values) in enumerate(zip(polynomial.outputs, polynomial.results, strict=True)):
        assign = "+=" if operand.is_scalar or operand.index is not None else "="
        for position, value in enumerate(values):
            vector = f"(V{{}} + {names[value]})" if value in polynomial.scalars else names[value]
            line = f"    {_place('o', i, position, operand)} {assign} {f'total({vector})' if operand.is_scalar else vector};"
            stores.setdefault(value, []).append(line)
    return stores


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
