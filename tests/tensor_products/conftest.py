"""Random edges in blocks that share a receiver, and rotation matrices."""

import numpy as np
import pytest

from mace_tp.tensor_products.testing.arguments import Edges, orthogonal_matrices


@pytest.fixture(params=[0, 1], ids=["rotation", "rotation+inversion"])
def matrix(request) -> np.ndarray:
    """An element of O(3)."""
    return orthogonal_matrices()[request.param]


@pytest.fixture(scope="session")
def make_edges() -> type[Edges]:
    return Edges
