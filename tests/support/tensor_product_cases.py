"""Every tensor product that has a YAML file, with its defaults and with every example of every option, for the shared tests.

Products with an option are in the slow set. So are `cuequivariance`, which on a CPU is a second, slow way to compute `cg`, and `auto`,
which is one of the two.
"""

import dataclasses
import pathlib
from typing import Any

import pytest
import yaml

from mace_tp.tensor_products.registry import TensorProductConfig, TensorProducts, build_tensor_products

_SLOW = {"auto", "cuequivariance"}
CONFIGS = pathlib.Path(__file__).parents[2] / "configs" / "tensor_product"


def build(case: dict[str, Any]) -> TensorProducts:
    """The tensor products of a YAML file, as its content."""
    return build_tensor_products(TensorProductConfig(**case))


def _cases() -> list[Any]:
    cases = []
    for path in sorted(CONFIGS.glob("*.yaml")):
        default = yaml.safe_load(path.read_text(encoding="utf-8"))
        cases.append(pytest.param(default, id=path.stem, marks=[pytest.mark.slow] * (path.stem in _SLOW)))
        for option in dataclasses.fields(build(default).interaction):
            for value in option.metadata["examples"]:
                case = {site: {**options, option.name: value} for site, options in default.items()}
                cases.append(pytest.param(case, id=f"{path.stem}-{option.name}={value}", marks=pytest.mark.slow))
    return cases


CASES = _cases()
