"""Closed forms of the couplings of the products that have no weight per path.

Each is the factor g of a bilinear map relative to the real coupling tensor C[l1, l2, l3] of Frobenius norm one. Harmonics are
real, in e3nn's order and normalized by their components: Σ_m Y_lm² = 2l+1.
"""

import functools
import math

from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan


def gaunt_coupling(l1: int, l2: int, l3: int) -> float:
    """Mean over the sphere of Y_l1 Y_l2 Y_l3 = g C: sqrt((2l1+1)(2l2+1)(2l3+1)) (l1 l2 l3; 0 0 0), with C's sign.

    Zero if l1 + l2 + l3 is odd. The entry of C at m = 0, 0, 0 is that 3j symbol, because real and complex harmonics agree there.
    """
    return _root_of_dimensions(l1, l2, l3) * _entry(l1, l2, l3, (0, 0, 0))


def bracket_coupling(l1: int, l2: int, l3: int) -> float:
    """Mean over the sphere of r·(∇Y_l1 × ∇Y_l2) Y_l3 = g C; not zero if l1 + l2 + l3 is odd.

    sqrt(l1(l1+1) l2(l2+1)) sqrt((2l1+1)(2l2+1)(2l3+1)) (l1 l2 l3; 1 -1 0). For odd sums the entry of C at m = 1, -1, 0 is that
    3j symbol.
    """
    if (l1 + l2 + l3) % 2 == 0 or min(l1, l2) == 0:
        return 0.0
    return math.sqrt(l1 * (l1 + 1) * l2 * (l2 + 1)) * _root_of_dimensions(l1, l2, l3) * _entry(l1, l2, l3, (1, -1, 0))


def matrix_coupling(degree: int, l1: int, l2: int, l3: int) -> float:
    """tr(M_l1 M_l2 M_l3ᵀ) = g C for matrices M_l = sqrt(2l+1) C[s, s, l] of unit norm: (-1)^l3 sqrt(Π (2l+1)) {l1 l2 l3; s s s}.

    The trace of three tensor operators. `tests/tensor_products/test_couplings.py` compares the table of the product with it.
    """
    return (-1) ** l3 * _root_of_dimensions(l1, l2, l3) * _six_j(l1, l2, l3, degree)


def _root_of_dimensions(*degrees: int) -> float:
    return math.sqrt(math.prod(2 * l + 1 for l in degrees))


def _entry(l1: int, l2: int, l3: int, m: tuple[int, int, int]) -> float:
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        return 0.0
    return float(clebsch_gordan(l1, l2, l3)[l1 + m[0], l2 + m[1], l3 + m[2]])


@functools.cache
def _six_j(l1: int, l2: int, l3: int, s: int) -> float:
    """Wigner's {l1 l2 l3; s s s}, by Racah's sum."""
    if not abs(l1 - l2) <= l3 <= l1 + l2 or max(l1, l2, l3) > 2 * s:
        return 0.0
    triads = [(l1, l2, l3), (l1, s, s), (l2, s, s), (l3, s, s)]
    bounds = [l1 + l2 + 2 * s, l2 + l3 + 2 * s, l3 + l1 + 2 * s]
    terms = 0.0
    for t in range(max(map(sum, triads)), min(bounds) + 1):
        factorials = [math.factorial(t - sum(triad)) for triad in triads] + [math.factorial(bound - t) for bound in bounds]
        terms += (-1) ** t * math.factorial(t + 1) / math.prod(factorials)
    return terms * math.prod(_triangle(*triad) for triad in triads)


def _triangle(a: int, b: int, c: int) -> float:
    f = math.factorial
    return math.sqrt(f(a + b - c) * f(a - b + c) * f(b + c - a) / f(a + b + c + 1))
