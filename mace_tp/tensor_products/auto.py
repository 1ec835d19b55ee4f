"""The Clebsch-Gordan product in the execution form that is fastest on this machine for the shapes of the model."""

import dataclasses

from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.cuequivariance import Cuequivariance


@dataclasses.dataclass(frozen=True)
class Auto(CG):
    """One of `forms`, which a training chooses by measurement (`benchmark/autotune.py`); without a measurement the form of `cg`."""

    def forms(self) -> dict[str, TensorProduct]:
        return {"cg": CG(), "cuequivariance": Cuequivariance()}
