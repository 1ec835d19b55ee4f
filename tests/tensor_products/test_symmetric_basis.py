"""The reduced symmetric basis: complete, orthonormal, equivariant, and of the same span as ACEsuit's tables."""

import pathlib

import e3nn_jax as e3nn
import numpy as np
import pytest

from mace_tp.model.mace_torch.layout import coordinates, coupling_sign, symmetric_part
from mace_tp.tensor_products.algebra.symmetric_basis import SymmetricBasis, clebsch_gordan, multiplicity, symmetric_basis

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "mace_torch"


def _basis(l_max: int, irrep: str, order: int) -> SymmetricBasis:
    return symmetric_basis(e3nn.s2_irreps(l_max), e3nn.Irrep(irrep), order)


def _evaluate(basis: SymmetricBasis, x: np.ndarray) -> np.ndarray:
    """Values [couplings, 2l+1] of the polynomials at a vector."""
    return basis.table @ x[basis.monomials].prod(axis=1)


# Numbers of O(3) couplings by the theory of characters: shared/tensor_products.md, 5.4.
@pytest.mark.parametrize(
    "l_max, order, scalars, vectors, tensors", [(3, 2, 4, 3, 5), (3, 3, 8, 12, 14), (3, 4, 23, 31, 46), (2, 3, 5, 5, 6), (2, 4, 9, 9, 13)]
)
def test_every_coupling_is_there_once(l_max, order, scalars, vectors, tensors):
    bases = [_basis(l_max, irrep, order) for irrep in ("0e", "1o", "2e")]
    assert [basis.table.shape[0] for basis in bases] == [scalars, vectors, tensors]
    assert [len(basis.factors) for basis in bases] == [scalars, vectors, tensors]


# Columns of ACEsuit's tables, measured on mace-torch 0.3.16.
@pytest.mark.parametrize("irrep, columns", [("0e", [1, 4, 23]), ("1o", [1, 6, 51]), ("2e", [1, 7, 65])])
def test_number_of_trees_is_the_number_of_columns_of_mace_torch(irrep, columns):
    assert [_basis(3, irrep, order).num_trees for order in (1, 2, 3)] == columns


@pytest.mark.parametrize(
    "l_max, order, irrep", [(3, 1, "0e"), (3, 2, "1o"), (3, 2, "2e"), (3, 3, "0e"), (3, 3, "1e"), (3, 3, "2e"), (2, 4, "1o")]
)
def test_couplings_are_orthonormal(l_max, order, irrep):
    basis = _basis(l_max, irrep, order)
    num_rows = basis.table.shape[0] * basis.table.shape[1]
    orderings = np.array([multiplicity(tuple(monomial)) for monomial in basis.monomials.tolist()])
    rows = (basis.table / np.sqrt(orderings)).reshape(num_rows, -1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(num_rows), atol=1e-12)


def test_order_one_is_the_identity():
    basis = _basis(2, "1o", 1)
    x = np.arange(1.0, 10.0)
    np.testing.assert_allclose(np.abs(_evaluate(basis, x)), [[2.0, 3.0, 4.0]], atol=1e-14)


@pytest.mark.parametrize("parity", [1, -1], ids=["rotation", "rotation+inversion"])
@pytest.mark.parametrize("irrep", ["0e", "0o", "1o", "1e", "2e"])
@pytest.mark.parametrize("irreps_in, order", [("0e+1o+2e+3o", 3), ("0e+1o+2e", 4), ("0e+1o+1e", 3)])
def test_couplings_commute_with_o3(irreps_in, order, irrep, parity):
    irreps_in, irrep = e3nn.Irreps(irreps_in), e3nn.Irrep(irrep)
    basis = symmetric_basis(irreps_in, irrep, order)
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation = parity * rotation * np.linalg.det(rotation)
    x = rng.normal(size=irreps_in.dim)

    before = _evaluate(basis, np.array(irreps_in.D_from_matrix(rotation)) @ x)
    after = _evaluate(basis, x) @ np.array(irrep.D_from_matrix(rotation)).T

    assert basis.table.shape[0] == 0 or np.abs(after).max() > 1e-2, "a map that is zero is equivariant too"
    np.testing.assert_allclose(before, after, atol=1e-10)


@pytest.mark.parametrize("irrep", ["0e", "1o"])
def test_factors_are_those_that_a_coupling_multiplies(irrep):
    irreps_in = e3nn.s2_irreps(3)
    basis = _basis(3, irrep, 3)
    x = np.random.default_rng(0).normal(size=irreps_in.dim)
    for i, factors in enumerate(basis.factors):
        scaled = x.copy()
        for factor in set(factors):
            scaled[irreps_in.slices()[factor]] *= 2
        np.testing.assert_allclose(_evaluate(basis, scaled)[i], 8 * _evaluate(basis, x)[i], rtol=1e-10)
        assert np.abs(_evaluate(basis, x)[i]).max() > 1e-4


# Every kind of table in the fixtures.
_TABLES = [("vectors_correlation_3", 3, 1), ("vectors_correlation_3", 3, 2), ("vectors_correlation_3", 3, 3)]
_TABLES += [("tensors_residual_first", 2, 1), ("tensors_residual_first", 2, 2), ("vectors_correlation_4", 1, 4)]


@pytest.mark.parametrize("case, l_max, order", _TABLES)
@pytest.mark.parametrize("block, irrep", [(0, "0e"), (1, "1o")])
def test_span_is_that_of_mace_torch(case, l_max, order, block, irrep):
    basis = _basis(l_max, irrep, order)
    u_matrix = np.load(FOLDER / f"{case}.npz")[f"products.0.symmetric_contractions.contractions.{block}.U_matrix_{order}"]
    u_matrix = u_matrix.reshape(e3nn.Irrep(irrep).dim, *[(l_max + 1) ** 2] * order, -1)

    polynomials = symmetric_part(u_matrix, basis)
    ours = coordinates(polynomials, basis)

    np.testing.assert_allclose(np.einsum("emp,ek->kmp", basis.table, ours), polynomials, atol=1e-12)
    # Full rank, and independent weights of unit variance on mace-torch's columns are independent ones on ours.
    np.testing.assert_allclose(ours @ ours.T, np.eye(len(ours)), atol=1e-10)


def test_irreps_with_multiplicity_are_an_error():
    with pytest.raises(ValueError, match="multiplicity one, got 2x0e"):
        symmetric_basis(e3nn.Irreps("2x0e+1o"), e3nn.Irrep("0e"), 2)


def _e3nn_couplings() -> dict[tuple[int, ...], np.ndarray]:
    """Coupling tensors of e3nn by their three degrees, all up to 4."""
    arrays = np.load(FOLDER / "e3nn_conventions.npz")
    return {tuple(map(int, name.split("/")[1].split("_"))): arrays[name] for name in arrays if name.startswith("wigner_3j/")}


def test_coupling_tensors_are_those_of_e3nn_but_for_the_sign_of_some_whose_degrees_have_an_odd_sum():
    negative = set()
    for degrees, reference in _e3nn_couplings().items():
        sign = coupling_sign(*degrees)
        np.testing.assert_allclose(sign * clebsch_gordan(*degrees), reference, atol=1e-12, err_msg=str(degrees))
        if sign < 0:
            negative.add(degrees)
    vectors = {order for l in (2, 3, 4) for order in ((1, l, l), (l, 1, l), (l, l, 1))}
    assert len(_e3nn_couplings()) == 65 and negative == vectors
