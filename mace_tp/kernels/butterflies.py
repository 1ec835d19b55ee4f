"""Constant linear maps as sums of a polynomial, in fewer operations than the table has entries.

Tables of symmetric objects have rows that are equal up to signs: a harmonic at mirrored points, an entry of a symmetric matrix and its
transpose. Two such rows are the sum and the difference of two shorter rows, one with the entries of equal sign and one with the entries of
opposite sign. This is the butterfly of a fast Fourier transform. The same holds for columns. Multiplying by a constant is free, because the
processor multiplies and adds in one instruction; only the number of entries counts.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mace_tp.kernels.polynomial import Builder, Term

# Entries that differ by less than this fraction of the largest entry count as equal: they differ by the rounding of the table.
_EQUAL = 1e-13

Pairs = list[tuple[int, int]]


def linear_map(builder: Builder, table: np.ndarray, values: Sequence[int]) -> list[int]:
    """Add table @ values to a polynomial and return the numbers of the results.

    Args:
        builder: of the polynomial.
        table: [results, values], float64.
        values: numbers of the input values.
    """
    return _mapped(builder, _with_equal_entries(table), list(values))


def _mapped(builder: Builder, table: np.ndarray, values: list[int]) -> list[int]:
    (saved_by_rows, rows), (saved_by_columns, columns) = _pairs(table), _pairs(table.T)
    if max(saved_by_rows, saved_by_columns) == 0:
        return [builder.add([Term(float(row[i]), (values[i],)) for i in np.flatnonzero(row)]) for row in table]
    if saved_by_rows >= saved_by_columns:
        return _sums_and_differences(builder, _mapped(builder, _halved(table, rows), values), rows)
    return _mapped(builder, _halved(table.T, columns).T, _sums_and_differences(builder, values, columns))


def _pairs(table: np.ndarray) -> tuple[int, Pairs]:
    """Find pairs of rows that are equal up to signs; return the number of operations that halving them saves, and the pairs."""
    classes: dict[bytes, list[int]] = defaultdict(list)
    for i in np.flatnonzero(table.any(axis=1)):
        classes[np.abs(table[i]).tobytes()].append(int(i))
    best = [_pairs_of_one_pattern(table, rows) for rows in classes.values() if len(rows) > 1]
    return sum(saved for saved, _ in best), [pair for _, pairs in best for pair in pairs]


def _pairs_of_one_pattern(table: np.ndarray, rows: list[int]) -> tuple[int, Pairs]:
    """Among rows that are equal up to signs, choose pairs whose signs differ in the same places: their halves are pairs again."""
    num_entries = int(np.count_nonzero(table[rows[0]]))
    patterns: dict[bytes, Pairs] = defaultdict(list)
    for position, i in enumerate(rows):
        for j in rows[position + 1 :]:
            signs = np.sign(table[i] * table[j])
            patterns[(signs * signs[np.flatnonzero(signs)[0]]).tobytes()].append((i, j))
    best: tuple[int, Pairs] = (0, [])
    for pattern, candidates in patterns.items():
        saved = num_entries - (2 if np.any(np.frombuffer(pattern) < 0) else 0)
        pairs = _disjoint(candidates)
        best = max(best, (saved * len(pairs), pairs), key=lambda found: found[0])
    return best


def _disjoint(pairs: Pairs) -> Pairs:
    used: set[int] = set()
    kept: Pairs = []
    for pair in pairs:
        if used.isdisjoint(pair):
            used.update(pair)
            kept.append(pair)
    return kept


def _halved(table: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Replace the rows (i, j) of each pair: i keeps the entries that are equal in j; j gets the entries of i with opposite sign."""
    halved = table.copy()
    for i, j in pairs:
        equal = table[i] == table[j]
        halved[i], halved[j] = np.where(equal, table[i], 0), np.where(equal, 0, table[i])
    return halved


def _sums_and_differences(builder: Builder, values: list[int], pairs: Pairs) -> list[int]:
    """Replace the two values of each pair by their sum and their difference."""
    changed = list(values)
    for i, j in pairs:
        changed[i], changed[j] = (builder.add([Term(1.0, (values[i],)), Term(sign, (values[j],))]) for sign in (1.0, -1.0))
    return changed


def _with_equal_entries(table: np.ndarray) -> np.ndarray:
    """Round the table: magnitudes that are equal up to rounding become one number, and small ones become exactly zero."""
    magnitudes, positions = np.unique(np.abs(table), return_inverse=True)
    tolerance = _EQUAL * magnitudes.max(initial=0)
    starts = np.flatnonzero(np.diff(magnitudes, prepend=-np.inf) > tolerance)  # the first of each group of equal magnitudes
    firsts = magnitudes[starts]
    firsts[firsts <= tolerance] = 0
    groups = np.searchsorted(starts, np.arange(len(magnitudes)), side="right") - 1
    return np.sign(table) * firsts[groups][positions].reshape(table.shape)
