"""The loss of small cases computed by hand: masks, labels that are missing, weights."""

import jax
import numpy as np
import pytest
from error_cases import make_case

from mace_tp.training.loss import LossWeights, weighted_loss

WEIGHTS = LossWeights(energy=2.0, forces=3.0, stress=5.0)
NONE = LossWeights(energy=0.0, forces=0.0, stress=0.0)


def test_loss_is_the_weighted_sum_of_mean_squared_errors():
    """Errors by hand: energies 0.2 and 0.6 eV over 2 and 1 atoms, forces 0.1 and 0.5 eV/Å, stress 0.03 eV/Å³."""
    prediction, batch = make_case()
    energy = ((0.2 / 2) ** 2 + (0.6 / 1) ** 2) / 2
    forces = (6 * 0.1**2 + 3 * 0.5**2) / 9
    stress = 0.03**2
    np.testing.assert_allclose(weighted_loss(prediction, batch, WEIGHTS), 2 * energy + 3 * forces + 5 * stress, rtol=1e-12)


@pytest.mark.parametrize(
    "weights, expected", [
        (NONE.replace(energy=1.0), ((0.2 / 2) ** 2 + 0.6**2) / 2), (NONE.replace(forces=1.0), (6 * 0.1**2 + 3 * 0.5**2) / 9),
        (NONE.replace(stress=1.0), 0.03**2), (NONE, 0.0),
    ], ids=["energy", "forces", "stress", "none"],
)  # fmt: skip
def test_each_weight_acts_on_its_own_error(weights, expected):
    np.testing.assert_allclose(weighted_loss(*make_case(), weights), expected, rtol=1e-12)


@pytest.mark.parametrize("label, expected", [("energy", 0.6**2), ("forces", 0.5**2), ("stress", 0.0)])
def test_graph_without_the_label_is_left_out_of_the_mean(label, expected):
    prediction, batch = make_case()
    unlabelled = batch.replace(**{f"{label}_mask": np.array([False, label != "stress", False])})
    np.testing.assert_allclose(weighted_loss(prediction, unlabelled, NONE.replace(**{label: 1.0})), expected, rtol=1e-12)


def test_weights_of_configurations_multiply_their_errors():
    """As in mace-torch: the mean is over the numbers, not over the weights."""
    prediction, batch = make_case()
    weighted = batch.replace(label_weights=np.array([[0.5, 2.0, 4.0], [3.0, 0.25, 1.0], [9.0, 9.0, 9.0]]))
    energy = (0.5 * (0.2 / 2) ** 2 + 3.0 * 0.6**2) / 2
    forces = (2.0 * 6 * 0.1**2 + 0.25 * 3 * 0.5**2) / 9
    stress = 4.0 * 0.03**2
    np.testing.assert_allclose(weighted_loss(prediction, weighted, WEIGHTS), 2 * energy + 3 * forces + 5 * stress, rtol=1e-12)


def test_weights_of_one_change_nothing():
    prediction, batch = make_case()
    assert weighted_loss(prediction, batch.replace(label_weights=np.ones((3, 3))), WEIGHTS) == weighted_loss(prediction, batch, WEIGHTS)


def test_without_labels_loss_and_gradient_are_zero():
    prediction, batch = make_case()
    none = np.zeros(3, bool)
    unlabelled = batch.replace(energy_mask=none, forces_mask=none, stress_mask=none)
    loss, gradient = jax.value_and_grad(weighted_loss)(prediction, unlabelled, WEIGHTS)
    assert loss == 0 and not any(leaf.any() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("garbage", [1e6, np.nan], ids=["large", "nan"])
def test_predictions_for_padding_do_not_enter(garbage):
    prediction, batch = make_case()
    spoiled = prediction.replace(
        energy=prediction.energy.at[2].set(garbage),
        forces=prediction.forces.at[3:].set(garbage),
        stress=prediction.stress.at[1:].set(garbage),
    )
    assert weighted_loss(spoiled, batch, WEIGHTS) == weighted_loss(prediction, batch, WEIGHTS)
