"""A model on disk: what is read is what was written, in files that cannot execute code."""

import dataclasses
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.model.potential import Potential
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import create_model, load_model, save_model
from mace_tp.tensor_products.registry import TensorProductConfig


@pytest.fixture(scope="module")
def create(statistics) -> Callable[[int], Potential]:
    """Makes a small model from a seed."""
    architecture = Architecture(cutoff=4.0, l_max=1, correlation=2, num_channels=2, radial_mlp=[4], num_bessel=4, readout_mlp=2)
    return lambda seed: create_model(architecture, TensorProductConfig({"name": "cg"}, "cg"), statistics, jnp.dtype("float64"), seed)


@pytest.fixture(scope="module")
def created(create) -> Potential:
    return create(0)


@pytest.fixture(scope="module")
def saved(created, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(folder, created, {"epoch": 3})
    return folder


def test_a_model_is_read_as_it_was_written(created, saved):
    read = load_model(saved)

    assert (read.architecture, read.tensor_product, read.statistics) == (created.architecture, created.tensor_product, created.statistics)
    assert jax.tree.structure(read.params) == jax.tree.structure(created.params)
    jax.tree.map(np.testing.assert_array_equal, read.params, created.params)


def test_a_model_that_was_read_predicts_the_same(created, saved, batch):
    read = load_model(saved)

    before, after = (jax.jit(make_predict(m.graphdef))(m.params, batch) for m in (created, read))

    assert np.abs(before.forces).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_float64_that_is_asked_for_is_switched_on(saved):
    jax.config.update("jax_enable_x64", False)
    try:
        assert load_model(saved, np.float64).dtype == np.float64
    finally:
        jax.config.update("jax_enable_x64", True)


def test_the_description_can_be_read_without_the_program(saved):
    description = json.loads((saved / "model.json").read_text())

    assert description.keys() == {"format", "architecture", "tensor_product", "statistics", "units", "versions", "notes"}
    assert description["notes"] == {"epoch": 3}
    assert description["statistics"]["atomic_numbers"] == [1, 6, 8]
    assert description["versions"]["jax"] == jax.__version__


def test_weights_have_readable_names_and_shapes(saved):
    weights = safetensors.numpy.load_file(saved / "weights.safetensors")

    assert weights["embedding.weight"].shape == (3, 2)
    assert all(name.replace(".", "").replace("_", "").isalnum() for name in weights), weights.keys()
    assert any(name.startswith("layers.1.product_basis") for name in weights)


def test_a_run_directory_stands_for_its_model(saved):
    assert load_model(saved.parent).architecture == load_model(saved).architecture


def test_a_model_is_read_in_another_precision(created, saved):
    read = load_model(saved, jnp.dtype("float32"))

    assert {leaf.dtype for leaf in jax.tree.leaves(read.params)} == {np.dtype(np.float32)}
    jax.tree.map(lambda single, double: np.testing.assert_array_equal(single, double.astype(np.float32)), read.params, created.params)


def test_a_model_replaces_an_earlier_one(created, saved, tmp_path):
    save_model(tmp_path, created, {"epoch": 1})
    doubled = dataclasses.replace(created, params=jax.tree.map(lambda leaf: 2 * leaf, created.params))

    save_model(tmp_path, doubled, {"epoch": 2})

    assert {path.name for path in tmp_path.iterdir()} == {"weights.safetensors", "model.json"}
    jax.tree.map(np.testing.assert_array_equal, load_model(tmp_path).params, doubled.params)


def test_the_seed_alone_decides_the_parameters(create, created):
    again, other = create(0), create(1)

    jax.tree.map(np.testing.assert_array_equal, again.params, created.params)
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(other.params), jax.tree.leaves(created.params), strict=True) if a.std() > 0)


def test_the_number_of_parameters_is_that_of_the_weights(created, saved):
    weights = safetensors.numpy.load_file(saved / "weights.safetensors")

    assert created.num_parameters == sum(weight.size for weight in weights.values())


def test_weights_of_another_shape_are_refused_by_name(created, saved, tmp_path):
    save_model(tmp_path, created, {})
    weights = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    weights["embedding.weight"] = weights["embedding.weight"][:2]
    safetensors.numpy.save_file(weights, tmp_path / "weights.safetensors")

    with pytest.raises(
        InputError, match=r"weights\.safetensors: embedding\.weight has shape \(2, 2\), the model in model\.json needs \(3, 2\)"
    ):
        load_model(tmp_path)


def test_a_seed_means_the_same_start_in_every_dtype(created, statistics):
    single = create_model(created.architecture, created.tensor_product, statistics, jnp.dtype("float32"), 0)

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(np.float32)), single.params, created.params)
