"""A polynomial as C++ source: a function of one item that goes through its channels, as many at a time as a register holds."""

from mace_tp.kernel.polynomial import Operand, Polynomial, Sum

_TYPES = {"float32": "float", "float64": "double"}

# Pointers are to the rows of an item, at its first channel; strides are between the values of a row. Scalars and sums are added to.
_FRAME = """\
#include <cstdint>
typedef {type} T;
typedef T V __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
static const int lanes = 64 / sizeof(T);

static inline T total(V v) {{
  typedef T Half __attribute__((vector_size(32)));
  typedef T Quarter __attribute__((vector_size(16)));
  union {{ V v; Half half[2]; }} a = {{v}};
  union {{ Half half; Quarter quarter[2]; }} b = {{a.half[0] + a.half[1]}};
  const Quarter q = b.quarter[0] + b.quarter[1];
  return {total};
}}

extern "C" void {name}(const T* const* in, T* const* out, const int64_t* in_stride, const int64_t* out_stride, int64_t blocks) {{
{scalars}
  for (int64_t c = 0; c < blocks * lanes; c += lanes) {{
{vectors}
  }}
}}
"""


def source(polynomial: Polynomial, dtype: str) -> str:
    """Source of the function `symbol(polynomial, dtype)`."""
    names, scalars, vectors = {}, [], []
    for i, (operand, values) in enumerate(zip(polynomial.inputs, polynomial.input_values, strict=True)):
        scalars.append(f"  const T* __restrict__ const i{i} = in[{i}];")
        names |= {value: _place("i", i, position, operand) for position, value in enumerate(values)}
    for i in range(len(polynomial.outputs)):
        scalars.append(f"  T* __restrict__ const o{i} = out[{i}];")
    for number, terms in polynomial.numbered_sums:
        names[number] = f"v{number}"
        is_scalar = number in polynomial.scalars
        statement = f"const {'T' if is_scalar else 'V'} v{number} = {_sum(terms, names, polynomial.scalars)};"
        (scalars if is_scalar else vectors).append(f"  {statement}" if is_scalar else f"    {statement}")
    for i, (operand, values) in enumerate(zip(polynomial.outputs, polynomial.results, strict=True)):
        for position, value in enumerate(values):
            vector = f"V{{}} + {names[value]}" if value in polynomial.scalars else names[value]
            assign = "+=" if operand.is_scalar or operand.index is not None else "="
            vectors.append(f"    {_place('o', i, position, operand)} {assign} {f'total({vector})' if operand.is_scalar else vector};")
    total = "q[0] + q[1]" if dtype == "float64" else "(q[0] + q[2]) + (q[1] + q[3])"
    return _FRAME.format(
        type=_TYPES[dtype], name=symbol(polynomial, dtype), total=total, scalars="\n".join(scalars), vectors="\n".join(vectors)
    )


def symbol(polynomial: Polynomial, dtype: str) -> str:
    """Name of the function."""
    return f"polynomial_{polynomial.key}_{dtype}"


def _place(kind: str, operand_number: int, position: int, operand: Operand) -> str:
    if operand.is_scalar:
        return f"{kind}{operand_number}[{position}]"
    const, strides = ("const ", "in_stride") if kind == "i" else ("", "out_stride")
    return f"(*({const}V*)({kind}{operand_number} + {position} * {strides}[{operand_number}] + c))"


def _sum(terms: Sum, names: dict[int, str], scalars: frozenset[int]) -> str:
    """Constants and scalars come first in a product, so that they are multiplied once for all channels."""
    products = []
    for term in terms:
        constant = [] if term.constant == 1 else [f"T({term.constant!r})"]
        factors = sorted(term.factors, key=lambda factor: factor not in scalars)
        products.append(" * ".join([*constant, *(names[factor] for factor in factors)]))
    return " + ".join(products) or "T(0)"
