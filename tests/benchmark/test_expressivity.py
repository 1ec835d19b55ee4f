"""Expressivity and interactability, measured on the plans, are those of the closed forms."""

import dataclasses

import e3nn_jax as e3nn
import numpy as np
import pytest
from matplotlib.image import imread

from mace_tp.benchmark.coupling_plots import draw_couplings
from mace_tp.benchmark.expressivity import basis_reach, bilinear_reach
from mace_tp.tensor_products.algebra.closed_forms import gaunt_coupling
from mace_tp.tensor_products.base import UnreachableIrrep
from mace_tp.tensor_products.cg import CG, CGInteraction, CGProductBasis
from mace_tp.tensor_products.registry import parse_product


def _outputs(l_max: int, parity: str) -> e3nn.Irreps:
    natural = e3nn.s2_irreps(2 * l_max)
    return natural if parity == "natural" else natural + e3nn.Irreps([(1, (irrep.ir.l, -irrep.ir.p)) for irrep in natural])


def _number_of_paths(l_max: int, parity: str) -> int:
    if parity == "all":
        return (l_max + 1) * (2 * l_max**2 + 4 * l_max + 3) // 3
    return (l_max + 1) * (l_max + 2) * (2 * l_max + 3) // 6


# L = 4 takes seconds a product.
DEGREES = [1, 2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]


@pytest.mark.parametrize("parity", ["natural", "all"])
@pytest.mark.parametrize("l_max", DEGREES)
def test_cg_reaches_a_map_for_every_path(l_max, parity):
    reach = bilinear_reach(CG(), e3nn.s2_irreps(l_max), e3nn.s2_irreps(l_max), _outputs(l_max, parity))

    assert len(reach.paths) == reach.num_coupled == reach.dof == _number_of_paths(l_max, parity)
    assert reach.residual < 1e-12


@pytest.mark.parametrize("name", ["gaunt", "spherical_grid", "matrix", "vector_grid"])
@pytest.mark.parametrize("l_max", DEGREES)
def test_a_product_without_path_weights_reaches_a_factor_for_every_degree_but_two(l_max, name):
    reach = bilinear_reach(parse_product(name), e3nn.s2_irreps(l_max), e3nn.s2_irreps(l_max), _outputs(l_max, "natural"))

    assert reach.dof == 4 * l_max + 1
    assert reach.num_coupled == _number_of_paths(l_max, "natural")
    assert reach.residual < 1e-12


@pytest.mark.parametrize(("name", "odd"), [("gaunt", False), ("spherical_grid", False), ("matrix", True), ("vector_grid", True)])
def test_products_of_functions_lose_the_odd_sums_and_others_do_not(name, odd):
    reach = bilinear_reach(parse_product(name), e3nn.s2_irreps(2), e3nn.s2_irreps(2), _outputs(2, "all"))
    coupled = {path for path, strength in zip(reach.paths, reach.strengths, strict=True) if strength > 0}

    assert coupled == {path for path in reach.paths if odd or (path.node.l + path.edge.l + path.out.l) % 2 == 0}


def test_strengths_are_measured_not_looked_up():
    """A scalar times l: the paths of one weight, in the proportion of Gaunt's coefficients and the weights of the point."""
    irreps = e3nn.s2_irreps(2)
    reach = bilinear_reach(parse_product("gaunt"), irreps, irreps, irreps)

    gaunt = np.array([abs(gaunt_coupling(path.node.l, path.edge.l, path.out.l)) for path in reach.paths])
    assert ((reach.strengths > 0) == (gaunt > 1e-12)).all() and reach.strengths.max() == 1


@pytest.mark.parametrize(
    ("degrees", "dofs"),
    [((1, 3, 3), (8, 10)), ((2, 3, 3), (9, 17)), pytest.param((3, 3, 3), (10, 20, 23), marks=pytest.mark.slow)],
)
def test_sums_of_products_reach_more(degrees, dofs):
    """Ranks of the path weights in the interaction of MACE, by rank R = 1, 2, ..."""
    node, edge, out = map(e3nn.s2_irreps, degrees)
    for rank, dof in enumerate(dofs, 1):
        assert bilinear_reach(parse_product(f"spherical_grid:rank={rank}"), node, edge, out).dof == dof


# l_in, order, output: symmetric couplings, sets of factors that products of functions reach.
COUNTS = [
    (3, 2, "0e", 4, 4), (3, 2, "1o", 3, 3), (3, 2, "2e", 5, 5), (3, 3, "0e", 8, 8), (3, 3, "1o", 12, 9), (3, 3, "2e", 14, 9),
    (2, 3, "0e", 5, 5), (2, 3, "1o", 5, 4), (2, 3, "2e", 6, 5),
]  # fmt: skip


@pytest.mark.parametrize("l_in", [2, 3])
def test_couplings_of_the_product_basis_are_those_counted_by_characters(l_in):
    hidden = e3nn.Irreps("0e+1o+2e")
    complete, gaunt = (basis_reach(parse_product(name), e3nn.s2_irreps(l_in), hidden, 3) for name in ("cg", "gaunt"))

    for counted_l_in, order, out, couplings, multisets in COUNTS:
        if counted_l_in == l_in:
            (of_cg,) = (entry for entry in complete.orders if (entry.order, str(entry.out)) == (order, out))
            (of_gaunt,) = (entry for entry in gaunt.orders if (entry.order, str(entry.out)) == (order, out))
            assert of_cg.num_couplings == of_cg.dof == couplings
            assert of_gaunt.num_reached == multisets
    assert complete.residual < 1e-10 and gaunt.residual < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(("order", "counts"), [(4, {"0e": (9, 8), "1o": (9, 6), "2e": (13, 8)})])
def test_couplings_of_the_fourth_order(order, counts):
    hidden = e3nn.Irreps("0e+1o+2e")
    complete, gaunt = (basis_reach(parse_product(name), e3nn.s2_irreps(2), hidden, order) for name in ("cg", "gaunt"))

    assert {str(entry.out): entry.dof for entry in complete.orders if entry.order == order} == {out: n for out, (n, _) in counts.items()}
    assert {str(entry.out): entry.num_reached for entry in gaunt.orders if entry.order == order} == {
        out: n for out, (_, n) in counts.items()
    }


@pytest.mark.parametrize(("rank", "dofs"), [(1, [4, 4, 4]), (2, [8, 8, 8]), pytest.param(3, [8, 9, 9], marks=pytest.mark.slow)])
def test_sums_of_powers_reach_more(rank, dofs):
    reach = basis_reach(parse_product(f"spherical_grid:rank={rank}"), e3nn.s2_irreps(3), e3nn.Irreps("0e+1o+2e"), 3)

    assert [entry.dof for entry in reach.orders if entry.order == 3] == dofs


def test_a_product_that_cannot_do_it_says_so():
    with pytest.raises(UnreachableIrrep):
        bilinear_reach(parse_product("gaunt"), e3nn.Irreps("1e"), e3nn.s2_irreps(1), e3nn.s2_irreps(1))


@dataclasses.dataclass(frozen=True)
class BrokenInteraction(CGInteraction):
    """Not equivariant: one component of the output is larger."""

    def __call__(self, *arguments):
        return super().__call__(*arguments).at[2].multiply(1.01)


@dataclasses.dataclass(frozen=True)
class BrokenBasis(CGProductBasis):
    """Likewise."""

    def __call__(self, *arguments):
        return super().__call__(*arguments).at[2].multiply(1.01)


@dataclasses.dataclass(frozen=True)
class Broken(CG):
    """Makes them."""

    def interaction(self, *irreps):
        return BrokenInteraction(*irreps)

    def product_basis(self, *shape):
        return BrokenBasis(*shape)


def test_a_map_that_is_not_equivariant_leaves_a_residual():
    harmonics = e3nn.s2_irreps(1)

    assert bilinear_reach(Broken(), harmonics, harmonics, harmonics).residual > 1e-3
    assert basis_reach(Broken(), harmonics, harmonics, 2).residual > 1e-3


def test_couplings_are_drawn(tmp_path):
    harmonics = e3nn.s2_irreps(1)
    reaches = {name: bilinear_reach(parse_product(name), harmonics, harmonics, _outputs(1, "all")) for name in ("cg", "gaunt")}
    draw_couplings(tmp_path / "couplings.png", reaches, "a title")

    assert imread(tmp_path / "couplings.png").std() > 0.01
