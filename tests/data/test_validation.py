"""Structures that cannot be computed are refused in words that are true of them."""

import numpy as np
import pytest

from mace_tp.data.validation import SAME_PLACE, check_configuration
from mace_tp.errors import InputError


@pytest.mark.parametrize("distance", [0.0, 0.5 * SAME_PLACE, SAME_PLACE])
@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3], ids=["molecule", "crystal"])
def test_two_atoms_at_one_place_are_no_periodic_images(make_configuration, pbc, distance):
    pair = make_configuration([1, 1], [[0, 0, 0], [0, 0, distance]], 3 * np.eye(3), pbc)
    with pytest.raises(InputError, match=r"atoms 0 \(H\) and 1 \(H\) are at the same place \(no more than 0.001 Å apart\)"):
        check_configuration(pair)


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3], ids=["molecule", "crystal"])
def test_atoms_a_little_farther_apart_are_two(make_configuration, pbc):
    check_configuration(make_configuration([1, 1], [[0, 0, 0], [0, 0, 1.01 * SAME_PLACE]], 3 * np.eye(3), pbc))


def test_periodic_images_are_called_so(make_configuration):
    pair = make_configuration([1, 1], [[0, 0, 0], [0, 3.0, 0]], 3 * np.eye(3), (True,) * 3)
    with pytest.raises(InputError, match="at the same place, as periodic images"):
        check_configuration(pair)
