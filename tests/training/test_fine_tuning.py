"""A training that starts with the weights of another model: what is taken over, and what is refused."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest

from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.model.parameters import named_parameters
from mace_tp.model.potential import Potential
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import create_model, load_model, save_model
from mace_tp.tensor_products.registry import TensorProductConfig
from mace_tp.training.fine_tuning import started_from, starting_statistics, statistics_of_start

SMALL = Architecture(cutoff=4.0, l_max=1, correlation=2, num_channels=2, radial_mlp=[4], num_bessel=4, readout_mlp=2)
CG = TensorProductConfig()


@pytest.fixture(scope="module")
def create(statistics):
    """Makes a small model."""

    def make(seed: int, forces: str, product: TensorProductConfig = CG, **shape) -> Potential:
        return create_model(dataclasses.replace(SMALL, forces=forces, **shape), product, statistics, np.dtype(np.float64), seed)

    return make


@pytest.fixture(scope="module")
def saved(create, tmp_path_factory):
    """A model with direct forces on disk, and its folder."""
    model, folder = create(1, "direct"), tmp_path_factory.mktemp("direct")
    save_model(folder / "model", model, {})
    return model, folder


def test_the_energy_stays_the_same_when_the_forces_become_its_gradient(create, saved, batch):
    direct, folder = saved

    gradient = started_from(str(folder), create(2, "gradient"))

    there, here = (jax.jit(make_predict(m.graphdef))(m.params, batch) for m in (direct, gradient))
    np.testing.assert_allclose(here.energy, there.energy, rtol=1e-12)
    assert np.abs(here.forces - there.forces).max() > 1e-2, "they are other forces"


def test_what_only_one_of_them_has_is_named(create, saved, tmp_path, caplog):
    _, folder = saved
    with caplog.at_level(logging.INFO, "mace_tp"):
        gradient = started_from(str(folder), create(2, "gradient"))
    [line] = caplog.messages
    assert "only there: forces.last_readout.gate, " in line and "new" not in line

    caplog.clear()
    save_model(tmp_path, gradient, {})
    fresh = create(3, "direct")
    with caplog.at_level(logging.INFO, "mace_tp"):
        direct = started_from(str(tmp_path), fresh)
    [line] = caplog.messages
    assert "new: forces.last_readout.gate, " in line and "only there" not in line
    for name, value in named_parameters(direct.params).items():
        source = fresh if name.startswith("forces.") else gradient
        np.testing.assert_array_equal(value, named_parameters(source.params)[name], err_msg=name)


def test_another_architecture_is_refused_with_all_differences(create, saved):
    other = create(2, "gradient", TensorProductConfig("cg", "gaunt"), num_channels=3, cutoff=5.0)

    with pytest.raises(
        InputError, match=r"another architecture; model.cutoff is 4.0 there, 5.0 here; model.num_channels is 2 there, 3"
    ) as e:
        started_from(str(saved[1]), other)
    assert "tensor_product" not in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("site, fresh", [("product_basis", "product_basis.weights"), ("interaction", "interaction.")])
def test_another_tensor_product_begins_with_fresh_weights_and_the_rest_is_taken(create, saved, caplog, site, fresh):
    direct, folder = saved
    other = create(2, "gradient", TensorProductConfig(**{site: "spherical_grid"}))

    with caplog.at_level(logging.INFO, "mace_tp"):
        started = started_from(str(folder), other)

    before, here, there = (named_parameters(model.params) for model in (other, started, direct))
    new = [name for name in here if np.array_equal(here[name], before[name])]
    assert new and all(fresh in name for name in new)
    assert f"new: {', '.join(new)}" in caplog.text
    for name in here.keys() - set(new):
        np.testing.assert_array_equal(here[name], there[name], err_msg=name)


def test_random_weights_are_not_frozen(create, saved):
    other = create(2, "gradient", TensorProductConfig("cg", "spherical_grid"))
    new = "layers.0.product_basis.weights"

    with pytest.raises(InputError, match=rf"optimizer.freeze: random weights would stay as they are.*: {new}$"):
        started_from(str(saved[1]), other, frozenset({"embedding.weight", new}))
    started_from(str(saved[1]), other, frozenset({"embedding.weight"}))


def test_elements_that_the_model_does_not_know_are_refused_by_name(statistics, saved):
    more = dataclasses.replace(statistics, atomic_numbers=(1, 6, 14), atomic_energies=(0.0, 0.0, 0.0))
    model = create_model(SMALL, CG, more, np.dtype(np.float64), seed=0)

    with pytest.raises(InputError, match="does not know Si of the training data; its elements are H C O"):
        started_from(str(saved[1]), model)


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_a_model_of_fewer_elements_is_the_same_function_of_them(statistics, create, tmp_path, molecule, forces):
    """Formaldehyde without its oxygen, by a model of H, C and O and by what a model of H and C takes from it."""
    source = create(1, forces)
    save_model(tmp_path, source, {})
    fewer = starting_statistics(str(tmp_path), _FEWER, statistics_of_start(str(tmp_path), None))
    shape = dataclasses.replace(SMALL, forces=forces)
    model = started_from(str(tmp_path), create_model(shape, CG, fewer, np.dtype(np.float64), seed=0))
    rest = dataclasses.replace(molecule, atomic_numbers=molecule.atomic_numbers[[0, 2, 3]], positions=molecule.positions[[0, 2, 3]])

    there, here = source.evaluate(rest), model.evaluate(rest)

    zero = dict(zip(statistics.atomic_numbers, statistics.atomic_energies))
    shift = sum(1.0 - zero[number] for number in rest.atomic_numbers)
    assert here.energy == pytest.approx(there.energy + shift, abs=1e-10)
    np.testing.assert_allclose(here.forces, there.forces, atol=1e-10)


_FEWER = DatasetStatistics(atomic_numbers=(1, 6), atomic_energies=(1.0, 1.0), avg_num_neighbors=9.0, scale=0.9, shift=7.0)


def test_numbers_that_the_weights_count_on_come_with_them_and_in_a_run_that_goes_on_from_itself(statistics, saved):
    kept = starting_statistics(str(saved[1]), _FEWER, statistics_of_start(str(saved[1]), None))
    assert kept == dataclasses.replace(
        _FEWER, avg_num_neighbors=statistics.avg_num_neighbors, scale=statistics.scale, shift=statistics.shift
    )
    assert starting_statistics("gone", _FEWER, statistics_of_start("gone", kept)) == kept
    assert starting_statistics(None, _FEWER, statistics_of_start(None, kept)) == _FEWER


def test_other_energies_of_isolated_atoms_are_said(statistics, saved, caplog):
    model = create_model(SMALL, CG, dataclasses.replace(statistics, atomic_energies=(-1.25, 2.5, 7.0)), np.dtype(np.float64), seed=0)

    started_from(str(saved[1]), model)

    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.endswith("it was trained with other E0s, which the ones of the data replace: O -0.75 there, 7 eV here")


@pytest.mark.parametrize(
    "there, here, warned", [("float64", "float32", True), ("float32", "float64", False), ("float64", "float64", False)]
)
def test_weights_that_lose_digits_are_said(statistics, tmp_path, caplog, there, here, warned):
    source, model = (create_model(SMALL, CG, statistics, np.dtype(dtype), seed=0) for dtype in (there, here))
    save_model(tmp_path, source, {})

    started_from(str(tmp_path), model)

    assert ("its weights are float64, and are rounded to float32; dtype=float64 keeps them" in caplog.text) == warned


def test_a_model_of_a_version_without_direct_forces_has_gradient_forces(create, tmp_path):
    save_model(tmp_path, create(1, "gradient"), {})
    description = json.loads((tmp_path / "model.json").read_text())
    del description["architecture"]["forces"]
    (tmp_path / "model.json").write_text(json.dumps(description))

    assert load_model(tmp_path).architecture.forces == "gradient"
