"""The fast forms of `cg` against plain ones: chains against tables, sparse sums and block sums against einsum."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.tensor_products.algebra.coordinates import coordinates
from mace_tp.tensor_products.algebra.coupling_chains import chain_basis, parents_of, polynomials
from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan, symmetric_basis
from mace_tp.tensor_products.ops.edge_sums import edge_coupling, sum_blocks, sum_messages
from mace_tp.tensor_products.ops.sparse_product import sparse_product


@pytest.mark.parametrize("out", ["0e", "1o", "2e", "1e"])
@pytest.mark.parametrize("irreps, order", [("0e+1o+2e+3o", 1), ("0e+1o+2e+3o", 2), ("0e+1o+2e+3o", 3), ("0e+1o+2e", 4), ("1o+1e", 3)])
def test_chains_span_what_the_couplings_span(irreps, order, out):
    irreps, out = e3nn.Irreps(irreps), e3nn.Irrep(out)
    chains, matrix = chain_basis(irreps, out, order)
    assert len(chains) == len(symmetric_basis(irreps, out, order).table)
    assert len(chains) == 0 or np.linalg.cond(matrix) < 100, "no digits of float32 to lose"
    for i, chain in enumerate(chains):
        coordinates_of_chain = coordinates(polynomials(irreps, chain), irreps, out, order)
        np.testing.assert_allclose(matrix @ coordinates_of_chain, np.eye(len(chains))[i], atol=1e-10)


def test_parents_come_before_the_chains_that_go_on_from_them():
    chains, _ = chain_basis(e3nn.Irreps("0e+1o+2e"), e3nn.Irrep("1o"), 4)
    done = set()
    for chain in parents_of(chains):
        assert chain.parent.order == 1 or chain.parent in done
        done.add(chain)
    assert {chain.parent for chain in chains} <= done


@pytest.fixture
def components():
    rng = np.random.default_rng(0)
    return [tuple(jnp.asarray(row) for row in rng.normal(size=(size, 4))) for size in (5, 7)]


def test_sparse_product_is_the_contraction_and_so_are_its_derivatives(components):
    coupling, (left, right) = clebsch_gordan(2, 3, 3), components

    def product(left, right):
        return jnp.stack(sparse_product(coupling, left, right))

    expected = np.einsum("ijm,ik,jk->mk", coupling, np.stack(left), np.stack(right))
    np.testing.assert_allclose(jax.jit(product)(left, right), expected, atol=1e-14)
    check_grads(jax.jit(product), (left, right), order=2, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-4)


def test_square_takes_every_product_once(components):
    coupling, factor = clebsch_gordan(3, 3, 2), components[1]

    def square(factor):
        return jnp.stack(sparse_product(coupling, factor, factor))

    expected = np.einsum("ijm,ik,jk->mk", coupling, np.stack(factor), np.stack(factor))
    np.testing.assert_allclose(jax.jit(square)(factor), expected, atol=1e-14)
    check_grads(jax.jit(square), (factor,), order=2, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-4)


def test_output_that_nothing_reaches_is_zero(components):
    assert not jnp.stack(sparse_product(np.zeros((5, 7, 3)), *components)).any()


def test_messages_of_blocks_are_the_contraction_and_so_are_their_derivatives():
    rng = np.random.default_rng(0)
    operands = [rng.normal(size=(3, EDGE_BLOCK, *shape)) for shape in ((3, 5), (4,), (5, 4))]
    expected = np.einsum("beoi,bec,beic->boc", *operands)
    np.testing.assert_allclose(jax.jit(sum_messages)(*operands), expected, atol=1e-13)
    check_grads(jax.jit(sum_messages), operands, order=2, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-4)


def test_couplings_of_edges_and_sums_of_blocks():
    rng = np.random.default_rng(0)
    table, harmonics = rng.normal(size=(3, 5, 7)), rng.normal(size=(3 * EDGE_BLOCK, 3))
    coupling = edge_coupling(table, harmonics)
    np.testing.assert_allclose(coupling.reshape(-1, 7, 5), np.einsum("yio,ey->eoi", table, harmonics), atol=1e-13)
    values, receivers = rng.normal(size=(3, 2, 4)), np.repeat([0, 2, 2], EDGE_BLOCK)
    of_nodes = np.stack([values[0], np.zeros((2, 4)), values[1] + values[2], np.zeros((2, 4))], axis=1)
    np.testing.assert_allclose(sum_blocks([values, 2 * values[:, :1]], receivers, 4), np.concatenate([of_nodes, 2 * of_nodes[:1]]))
