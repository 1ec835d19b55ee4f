"""What a resumed training is compared with."""

import dataclasses
import json

import pytest

from mace_tp.config import Config, ModelConfig
from mace_tp.errors import InputError
from mace_tp.training.provenance import require_same


def _origin(**model) -> dict:
    config = Config(model=ModelConfig(**model))
    return {"config": json.loads(json.dumps(dataclasses.asdict(config))), "data": {}, "atomic_energies": {}}


def test_a_key_that_the_checkpoint_does_not_know_had_its_default():
    before = _origin()
    del before["config"]["model"]["forces"]

    require_same(before, _origin(), changes_are_wanted=False)
    with pytest.raises(InputError, match="model.forces was gradient, is direct"):
        require_same(before, _origin(forces="direct"), changes_are_wanted=False)


def test_where_the_first_weights_came_from_does_not_matter():
    require_same(_origin(init_from="runs/direct"), _origin(), changes_are_wanted=False)


def test_another_tensor_product_is_a_change():
    before = _origin()
    before["config"]["tensor_product"]["interaction"] = {"name": "gaunt", "rank": 2}

    with pytest.raises(InputError, match="tensor_product.interaction.rank was 2, is None"):
        require_same(before, _origin(), changes_are_wanted=False)
