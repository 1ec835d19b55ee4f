"""A training that starts with the weights of another model: what is taken over, and what is refused."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest

from mace_tp.config import TensorProductConfig
from mace_tp.errors import InputError
from mace_tp.model import Architecture
from mace_tp.saved_model import Model, create_model, load_model, named_parameters, save_model
from mace_tp.training.step import make_predict
from mace_tp.warm_start import started_from

SMALL = Architecture(cutoff=4.0, l_max=1, correlation=2, num_channels=2, radial_mlp=[4], num_bessel=4, readout_mlp=2)
CG = TensorProductConfig()


@pytest.fixture(scope="module")
def create(statistics):
    """Makes a small model."""

    def make(seed: int, forces: str, product: TensorProductConfig = CG, **shape) -> Model:
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

    there, here = (jax.jit(make_predict(m.graphdef, SMALL.cutoff))(m.params, batch) for m in (direct, gradient))
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
    assert "tensor_product.product_basis is CG() there, Gaunt(rank=1) here" in str(e.value)
    assert "tensor_product.interaction" not in str(e.value) and "\n" not in str(e.value)


def test_other_elements_are_refused_by_name(statistics, saved):
    fewer = dataclasses.replace(statistics, atomic_numbers=(1, 6), atomic_energies=(0.0, 0.0))
    model = create_model(SMALL, CG, fewer, np.dtype(np.float64), seed=0)

    with pytest.raises(InputError, match="its elements are H C O, those of the training data H C; they must be the same"):
        started_from(str(saved[1]), model)


def test_statistics_of_other_data_are_said(statistics, create, saved, caplog):
    model = create_model(SMALL, CG, dataclasses.replace(statistics, scale=0.9), np.dtype(np.float64), seed=0)

    started_from(str(saved[1]), model)

    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.endswith("scale is 0.8 there, 0.9 here")


def test_a_model_of_a_version_without_direct_forces_has_gradient_forces(create, tmp_path):
    save_model(tmp_path, create(1, "gradient"), {})
    description = json.loads((tmp_path / "model.json").read_text())
    del description["architecture"]["forces"]
    (tmp_path / "model.json").write_text(json.dumps(description))

    assert load_model(tmp_path).architecture.forces == "gradient"
