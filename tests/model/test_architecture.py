"""The shape of a model: what files and configurations give, and what can be compared and hashed."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from mace_tp.config import ModelConfig, build_architecture
from mace_tp.model.architecture import Architecture
from mace_tp.model.mace import MACE
from mace_tp.tensor_products.registry import TensorProductConfig, build_tensor_products


def test_the_configuration_has_the_fields_and_defaults_of_the_architecture():
    names = [field.name for field in dataclasses.fields(ModelConfig)]

    assert names == [*(field.name for field in dataclasses.fields(Architecture)), "init_from"]
    assert build_architecture(ModelConfig()) == Architecture()
    assert dataclasses.asdict(ModelConfig()) == Architecture().to_dict() | {"init_from": None}


def test_lists_of_files_and_tuples_are_the_same():
    listed = Architecture(**json.loads(json.dumps(Architecture(radial_mlp=(8, 4)).to_dict())))

    assert listed == Architecture(radial_mlp=(8, 4)) and hash(listed) == hash(Architecture(radial_mlp=(8, 4)))
    assert listed.to_dict()["radial_mlp"] == [8, 4]


def test_it_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Architecture().cutoff = 3.0


@pytest.mark.parametrize("forces", ["gradient", "direct"])
@pytest.mark.parametrize("name", ["cg", "gaunt", "spherical_grid", "vector_grid", "matrix", "hybrid"])
def test_the_structure_of_a_model_can_be_hashed(name, forces, architecture, statistics):
    shape = dataclasses.replace(architecture, l_max=1, correlation=2, forces=forces)

    def graphdef() -> nnx.GraphDef:
        products = build_tensor_products(TensorProductConfig(name, name))
        return nnx.split(MACE(shape, products, statistics, dtype=np.dtype(np.float64), rng=np.random.default_rng(0)))[0]

    assert isinstance(hash(graphdef()), int)


def test_random_numbers_of_flax_are_accepted(architecture, statistics):
    shape = dataclasses.replace(architecture, l_max=1, correlation=2)

    def weights(rngs: nnx.Rngs) -> list[jax.Array]:
        model = MACE(shape, build_tensor_products(TensorProductConfig()), statistics, dtype=np.dtype(np.float64), rng=rngs)
        return jax.tree.leaves(nnx.state(model, nnx.Param))

    first, again, other = (weights(nnx.Rngs(seed)) for seed in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (np.asarray(a) != c).any()
