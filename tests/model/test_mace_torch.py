"""Our model with the weights of ACEsuit's MACE gives its energies, forces and stress.

The answers come from mace-torch itself; `scripts/make_mace_torch_fixtures.py` wrote them.
"""

import json
import pathlib

import e3nn_jax as e3nn
import jax
import numpy as np
import pytest
from flax import nnx

from mace_tp.cli.convert import main as convert
from mace_tp.data.batching import pad_batch
from mace_tp.data.buckets import Bucket
from mace_tp.data.configuration import Configuration
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.graphs import build_graphs
from mace_tp.graph import GraphBatch, edge_vectors
from mace_tp.model.architecture import Architecture
from mace_tp.model.mace_torch import files
from mace_tp.model.mace_torch.convert import to_model
from mace_tp.model.mace_torch.files import MaceTorchModel
from mace_tp.model.mace_torch.layout import to_ours, to_theirs
from mace_tp.model.parameters import Params, named_parameters
from mace_tp.model.potential import Potential
from mace_tp.model.prediction import Prediction, predict
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import save_model

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "mace_torch"
CASES = [
    "vectors_correlation_3", "tensors_residual_first", "scalars_correlation_3", "vectors_correlation_4", "density_agnesi_zbl",
    "soft_nonresidual", "density_residual_single_layer", "pseudo_tensors", "pseudo_vectors",
]  # fmt: skip
WITH_PARAMETERS = ("node_embedding", "interactions", "products", "readouts")
_CHOICES = ("other_interactions", "message_normalization", "distance_transform", "pair_repulsion")
SYSTEMS = ["molecule", "crystal", "atom"]


def _architecture(case: dict) -> Architecture:
    hidden = e3nn.Irreps(case["hidden_irreps"])
    return Architecture(
        cutoff=case["r_max"], l_max=case["max_ell"], hidden_irreps="+".join(str(mul_ir.ir) for mul_ir in hidden),
        correlation=case["correlation"], num_channels=hidden[0].mul, num_interactions=case["num_interactions"],
        radial_mlp=case["radial_mlp"], num_bessel=case["num_bessel"], cutoff_power=case["num_polynomial_cutoff"],
        readout_mlp=e3nn.Irreps(case["mlp_irreps"]).dim, first_interaction=case["first_interaction"],
        **{name: case[name] for name in _CHOICES if name in case},
    )  # fmt: skip


def _statistics(case: dict) -> DatasetStatistics:
    return DatasetStatistics(
        atomic_numbers=tuple(case["atomic_numbers"]), atomic_energies=tuple(case["atomic_energies"]),
        avg_num_neighbors=case["avg_num_neighbors"], scale=case["scale"], shift=case["shift"],
    )  # fmt: skip


def _read(case: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Hyperparameters and arrays of a case."""
    return json.loads((FOLDER / f"{case}.json").read_text()), dict(np.load(FOLDER / f"{case}.npz", allow_pickle=False))


def _model(case: dict, arrays: dict[str, np.ndarray]) -> Potential:
    return to_model(MaceTorchModel(_architecture(case), _statistics(case), arrays, "float64"), np.dtype(np.float64))


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
    case, arrays = _read(request.param)
    model, batch = _model(case, arrays), _batch(arrays, case)

    @jax.jit
    def evaluate(params: Params, batch: GraphBatch) -> tuple[jax.Array, Prediction]:
        mace = nnx.merge(model.graphdef, params)
        return mace(edge_vectors(batch, case["r_max"]), batch), predict(mace, batch, case["r_max"])

    node_energy, prediction = evaluate(model.params, batch)
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
def test_weights_outside_the_contraction_come_back_to_the_last_bit_and_in_it_the_function_does(case):
    hyper, arrays = _read(case)
    architecture, num_species = _architecture(hyper), len(hyper["atomic_numbers"])
    ours = to_ours(arrays, architecture, num_species)

    theirs = to_theirs(ours, arrays, architecture, num_species)

    parameters = {name for name in arrays if "/" not in name and "U_matrix" not in name and name.split(".")[0] in WITH_PARAMETERS}
    assert theirs.keys() == parameters
    for name, values in theirs.items():
        if "contractions" not in name:
            np.testing.assert_array_equal(values.ravel(), arrays[name].ravel(), err_msg=name)
    again = to_ours(arrays | theirs, architecture, num_species)
    for name, values in ours.items():
        np.testing.assert_allclose(again[name], values, rtol=0, atol=1e-12 * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_what_is_written_in_a_dtype_is_what_is_evaluated_in_it(dtype, tmp_path, monkeypatch):
    """Of a model that was trained in float32: its numbers as they are, and every constant in the dtype that is asked for."""
    hyper, arrays = _read("scalars_correlation_3")
    trained = _model(hyper, arrays).astype(np.dtype(np.float32))
    save_model(tmp_path / "a", trained, {})
    names, written = ("path", "architecture", "statistics", "parameters", "dtype"), {}
    monkeypatch.setattr(files, "write", lambda *given: written.update(zip(names, given)))

    convert(["to-mace-torch", str(tmp_path / "a"), str(tmp_path / "a.model"), *([] if dtype is None else ["--dtype", dtype])])

    assert written["dtype"] == (dtype or "float32") and written["statistics"] == _statistics(hyper)
    for name, value in named_parameters(trained.params).items():
        np.testing.assert_array_equal(written["parameters"][name], np.asarray(value, np.float64), err_msg=name)
    theirs = to_theirs(written["parameters"], arrays, _architecture(hyper), 3)
    again = to_model(MaceTorchModel(_architecture(hyper), _statistics(hyper), arrays | theirs, written["dtype"]), np.dtype(np.float64))
    batch = _batch(arrays, hyper)
    values = [jax.jit(make_predict(model.graphdef))(model.params, batch) for model in (again, trained.astype(np.float64))]
    for ours, expected in zip(*map(jax.tree.leaves, values), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_an_array_that_is_missing_or_too_small_is_named():
    hyper, arrays = _read("scalars_correlation_3")
    architecture = _architecture(hyper)
    name = "interactions.0.linear.weight"
    with pytest.raises(ValueError, match=f"there is no {name}"):
        to_ours({key: value for key, value in arrays.items() if key != name}, architecture, 3)
    with pytest.raises(ValueError, match=f"{name} has 47 numbers, 48 expected"):
        to_ours(arrays | {name: arrays[name][1:]}, architecture, 3)
