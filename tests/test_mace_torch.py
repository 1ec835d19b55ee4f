"""Our model with the weights of ACEsuit's MACE gives its energies, forces and stress.

The answers come from mace-torch itself; `scripts/make_mace_torch_fixtures.py` wrote them.
"""

import json
import pathlib

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from mace_torch_weights import read_weights

from mace_tp.config import TensorProductConfig, build_tensor_products
from mace_tp.data.batching import pad_batch
from mace_tp.data.buckets import Bucket
from mace_tp.data.configuration import Configuration
from mace_tp.data.graphs import build_graphs
from mace_tp.dataset_statistics import DatasetStatistics
from mace_tp.graph import GraphBatch, edge_vectors
from mace_tp.model import MACE, Architecture
from mace_tp.potential import Prediction, predict

FOLDER = pathlib.Path(__file__).parent / "fixtures" / "mace_torch"
CASES = ["vectors_correlation_3", "tensors_residual_first", "scalars_correlation_3", "vectors_correlation_4"]
SYSTEMS = ["molecule", "crystal", "atom"]


def _architecture(case: dict) -> Architecture:
    hidden = e3nn.Irreps(case["hidden_irreps"])
    return Architecture(
        cutoff=case["r_max"], l_max=case["max_ell"], hidden_irreps="+".join(str(mul_ir.ir) for mul_ir in hidden),
        correlation=case["correlation"], num_channels=hidden[0].mul, num_interactions=case["num_interactions"],
        radial_mlp=case["radial_mlp"], num_bessel=case["num_bessel"], cutoff_power=case["num_polynomial_cutoff"],
        readout_mlp=e3nn.Irreps(case["mlp_irreps"]).dim, first_interaction=case["first_interaction"],
    )  # fmt: skip


def _statistics(case: dict) -> DatasetStatistics:
    return DatasetStatistics(
        atomic_numbers=tuple(case["atomic_numbers"]), atomic_energies=tuple(case["atomic_energies"]),
        avg_num_neighbors=case["avg_num_neighbors"], scale=case["scale"], shift=case["shift"],
    )  # fmt: skip


def _model(case: dict, arrays: dict[str, np.ndarray]) -> MACE:
    architecture, statistics = _architecture(case), _statistics(case)
    products = build_tensor_products(TensorProductConfig("cg", "cg"))
    model = MACE(architecture, products, statistics, dtype=np.dtype(np.float64), rng=np.random.default_rng(0))
    graphdef, params = nnx.split(model, nnx.Param)
    weights = read_weights(arrays, architecture, len(statistics.atomic_numbers))
    expected = {path: variable.shape for path, variable in nnx.to_flat_state(params)}
    assert {path: weight.shape for path, weight in weights.items()} == expected
    return nnx.merge(graphdef, nnx.from_flat_state({path: nnx.Param(jnp.asarray(weight)) for path, weight in weights.items()}))


def _batch(arrays: dict[str, np.ndarray], case: dict) -> GraphBatch:
    """The three systems as one batch, with edges of our own."""
    configurations = [
        Configuration(
            arrays[f"{system}/atomic_numbers"], arrays[f"{system}/positions"], arrays[f"{system}/cell"],
            tuple(arrays[f"{system}/pbc"].tolist()), None, None, None, "", system,
        )
        for system in SYSTEMS
    ]  # fmt: skip
    graphs = build_graphs(configurations, case["atomic_numbers"], case["atomic_energies"], case["r_max"])
    return pad_batch(graphs, Bucket(nodes=12, edges=160, graphs=4, pairs=81), np.float64)


@pytest.fixture(scope="module", params=CASES)
def compared(request) -> tuple[jax.Array, Prediction, dict[str, np.ndarray]]:
    """Our node energies (E0 included) and prediction, and the arrays of the case."""
    case = json.loads((FOLDER / f"{request.param}.json").read_text())
    arrays = dict(np.load(FOLDER / f"{request.param}.npz", allow_pickle=False))
    model, batch = _model(case, arrays), _batch(arrays, case)

    @jax.jit
    def evaluate(batch: GraphBatch) -> tuple[jax.Array, Prediction]:
        return model(edge_vectors(batch, case["r_max"]), batch), predict(model, batch, case["r_max"])

    node_energy, prediction = evaluate(batch)
    return node_energy + np.array(case["atomic_energies"])[batch.species], prediction, arrays


@pytest.mark.parametrize("system, atoms", [("molecule", slice(0, 6)), ("crystal", slice(6, 9)), ("atom", slice(9, 10))])
def test_node_energies_and_forces_are_those_of_mace_torch(compared, system, atoms):
    node_energy, prediction, arrays = compared
    np.testing.assert_allclose(node_energy[atoms], arrays[f"{system}/node_energy"], rtol=1e-10)
    np.testing.assert_allclose(prediction.energy[SYSTEMS.index(system)], arrays[f"{system}/interaction_energy"], rtol=1e-10)
    forces = arrays[f"{system}/forces"]
    np.testing.assert_allclose(prediction.forces[atoms], forces, rtol=0, atol=1e-10 * np.abs(forces).max())


def test_stress_is_that_of_mace_torch(compared):
    _, prediction, arrays = compared
    stress = arrays["crystal/stress"]
    np.testing.assert_allclose(prediction.stress[1], stress, rtol=0, atol=1e-10 * np.abs(stress).max())


@pytest.mark.parametrize("case", CASES)
def test_number_of_parameters_outside_the_contraction_is_that_of_mace_torch(case):
    arrays, hyper = dict(np.load(FOLDER / f"{case}.npz", allow_pickle=False)), json.loads((FOLDER / f"{case}.json").read_text())
    contraction = sum(array.size for name, array in arrays.items() if "contractions" in name and "U_matrix" not in name)
    weights = read_weights(arrays, _architecture(hyper), len(hyper["atomic_numbers"]))
    outside = sum(weight.size for path, weight in weights.items() if path[-2:] != ("product_basis", "weights"))
    assert outside == hyper["num_parameters"] - contraction
