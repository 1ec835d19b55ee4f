"""`cuequivariance` by the library's plain form: weights of pairs by index; and what is said where the kernels for a GPU are missing.

No GPU is needed: jax is made to say that it has one, and a stand-in takes the place of the package of kernels.
"""

import sys
import types

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.errors import InputError
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.cuequivariance import Cuequivariance
from mace_tp.tensor_products.plans import InteractionPlan

pytest.importorskip("cuequivariance_jax")

CHANNELS = 2
SCALAR = e3nn.Irreps("0e")


@pytest.fixture
def plan() -> InteractionPlan:
    return Cuequivariance().interaction(e3nn.Irreps("0e+1o"), e3nn.s2_irreps(1), e3nn.s2_irreps(1))


@pytest.fixture
def operands(plan, batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weights of pairs, zero where a pair is padding; features and harmonics."""
    rng = np.random.default_rng(0)
    is_real = (batch.pair_edges[:, 0] != batch.pair_edges[:, 1])[:, None, None]
    weights = is_real * rng.normal(size=(batch.num_pairs, plan.num_weights, CHANNELS))
    features = rng.normal(size=(plan.irreps_node.dim, batch.num_nodes, CHANNELS))
    return tuple(map(jnp.asarray, (weights, features, rng.normal(size=(batch.num_edges, plan.irreps_edge.dim)))))


def test_weights_of_pairs_by_index_are_those_of_edges(plan, operands, batch):
    weights, features, attributes = operands
    of_edges = batch.replace(edge_pair=np.arange(batch.num_edges, dtype=np.int32))
    expected = plan(weights[batch.edge_pair], features, attributes, of_edges)
    np.testing.assert_allclose(plan(*operands, batch), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_both_derivatives_are_those_of_cg(plan, operands, batch):
    def values(plan):
        """The value, its gradient, and the gradient of a function of that, as a training step needs it."""

        def loss(*operands):
            return jnp.sum(jnp.sin(plan(*operands, batch)))

        gradient = jax.grad(loss, argnums=(0, 1, 2))
        squared = jax.grad(lambda *operands: sum(jnp.sum(g**2) for g in gradient(*operands)), argnums=(0, 1))
        return jax.jit(lambda *operands: (plan(*operands, batch), gradient(*operands), squared(*operands)))(*operands)

    cg = CG().interaction(plan.irreps_node, plan.irreps_edge, plan.irreps_keep)
    for found, expected in zip(*map(jax.tree.leaves, (values(plan), values(cg))), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_no_array_holds_the_weights_of_every_edge(plan, operands, batch):
    """[edges, paths, channels] is larger than everything else that the kernel reads."""
    equations = jax.make_jaxpr(lambda *operands: plan(*operands, batch))(*operands).jaxpr.eqns
    sizes = [variable.aval.size for equation in equations for variable in equation.outvars]
    assert batch.num_edges * plan.num_weights * CHANNELS not in sizes


@pytest.fixture
def gpu(monkeypatch) -> None:
    """jax says that it computes on a GPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def _package(monkeypatch, folder, name: str, content: str) -> None:
    """Put a stand-in in the place of a package."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


ERRORS = [
    ("raise ImportError('no module named cuequivariance_ops')", "ImportError: no module named cuequivariance_ops"),
    ("raise OSError('libcue_ops.so: cannot open shared object file')", "OSError: libcue_ops.so: cannot open shared object file"),
    ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    ("__version__ = '0.3'", "ImportError: cannot import name 'Operation'"),
]


def _require_one_line(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value) and "tensor_product=cg is the same function" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("content, reason", ERRORS)
def test_on_a_gpu_kernels_that_are_missing_or_do_not_load_are_one_line(content, reason, plan, operands, batch, gpu, monkeypatch, tmp_path):
    _package(monkeypatch, tmp_path, "cuequivariance_ops_jax", content)
    product = Cuequivariance()
    for call in (
        product.require_packages,
        lambda: product.interaction(SCALAR, SCALAR, SCALAR),
        lambda: product.product_basis(SCALAR, SCALAR, 1),
        lambda: product.bilinear(SCALAR, SCALAR, SCALAR),
        lambda: plan(*operands, batch),  # planned before, on another device
    ):
        assert reason in _require_one_line(call)
    with jax.default_device(jax.devices("cpu")[0]):
        product.interaction(SCALAR, SCALAR, SCALAR)
        plan(*operands, batch)


@pytest.mark.parametrize("content, reason", ERRORS[1:3])
def test_a_library_that_does_not_load_is_one_line_on_every_device(content, reason, monkeypatch, tmp_path):
    """cuequivariance-jax imports the kernels, too, where they are installed, and expects no other than an ImportError."""
    _package(monkeypatch, tmp_path, "cuequivariance_jax", content)
    assert reason in _require_one_line(Cuequivariance().require_packages)


def test_the_kernel_for_a_gpu_gets_weights_of_pairs_and_an_index(plan, operands, batch, gpu, monkeypatch):
    """Lowered for CUDA, with a stand-in for the kernel that notes what it is given."""
    calls = []

    def uniform_1d(inputs, outputs, indices, index_configuration, **_):
        calls.append(([x.shape for x in inputs], [x.shape for x in outputs], [len(x) for x in indices], index_configuration.tolist()))
        return [jnp.zeros(output.shape, output.dtype) for output in outputs]

    kernels = types.SimpleNamespace(
        uniform_1d=uniform_1d, Operation=lambda *given: given, Path=lambda *given: given, __version__="0.13.0", __name__="kernels"
    )
    monkeypatch.setitem(sys.modules, "cuequivariance_ops_jax", kernels)

    jax.jit(lambda *operands: plan(*operands, batch)).trace(*operands).lower(lowering_platforms=("cuda",))

    [(inputs, outputs, indices, configuration)] = calls
    pairs, edges, nodes = batch.num_pairs, batch.num_edges, batch.num_nodes
    assert inputs == [(pairs, plan.num_weights, CHANNELS), (nodes, plan.irreps_node.dim, CHANNELS), (edges, plan.irreps_edge.dim, 1)]
    assert outputs == [(nodes, plan.irreps_out.dim, CHANNELS)]
    assert indices == [edges, edges, edges] and [row[0] for row in configuration[:4]] == [0, 1, -1, 2]
