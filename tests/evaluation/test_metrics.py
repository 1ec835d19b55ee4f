"""Errors of small cases computed by hand, and sums that merge as if all batches were one."""

import functools

import jax
import numpy as np
import pytest
from error_cases import make_case

from mace_tp.evaluation.metrics import add, error_sums, summarize
from mace_tp.training.loss import LossWeights, loss_from_sums, weighted_loss

WEIGHTS = LossWeights(energy=2.0, forces=3.0, stress=5.0)


def test_errors_are_those_computed_by_hand():
    """Energies 0.2 and 0.6 eV over 2 and 1 atoms, six force components 0.1 and three 0.5 eV/Å, stress 0.03 eV/Å³."""
    expected = {
        "energy_mae": 1000 * (0.1 + 0.6) / 2, "energy_rmse": 1000 * np.sqrt((0.1**2 + 0.6**2) / 2),
        "energy_rmse_per_config": 1000 * np.sqrt((0.2**2 + 0.6**2) / 2),
        "force_mae": 1000 * (6 * 0.1 + 3 * 0.5) / 9, "force_rmse": 1000 * np.sqrt((6 * 0.1**2 + 3 * 0.5**2) / 9),
        "stress_mae": 30.0, "stress_rmse": 30.0,
    }  # fmt: skip
    assert summarize(error_sums(*make_case())) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("label, prefix", [("energy", "energy_"), ("forces", "force_"), ("stress", "stress_")])
def test_kind_without_labels_is_absent(label, prefix):
    prediction, batch = make_case()
    everything = summarize(error_sums(prediction, batch))
    without = summarize(error_sums(prediction, batch.replace(**{f"{label}_mask": np.zeros(3, bool)})))
    assert without == {name: value for name, value in everything.items() if not name.startswith(prefix)} != everything


def test_predictions_for_padding_do_not_enter():
    prediction, batch = make_case()
    spoiled = prediction.replace(
        energy=prediction.energy.at[2].set(np.nan), forces=prediction.forces.at[3:].set(np.nan), stress=prediction.stress.at[1:].set(np.nan)
    )
    assert summarize(error_sums(spoiled, batch)) == summarize(error_sums(prediction, batch))


def test_merged_batches_are_one_batch(make_batch, molecule, crystal, lone_atom, potential):
    """Batches of different numbers of atoms, so that a mean of the batches' means would be another number."""
    one = make_batch(molecule, crystal, lone_atom)
    several = [make_batch(molecule), make_batch(crystal, lone_atom)]

    merged = functools.reduce(add, [error_sums(potential(batch), batch) for batch in several])

    assert summarize(merged) == pytest.approx(summarize(error_sums(potential(one), one)), rel=1e-10)
    np.testing.assert_allclose(loss_from_sums(merged, WEIGHTS), weighted_loss(potential(one), one, WEIGHTS), rtol=1e-10)


def test_weights_of_configurations_are_in_the_loss_and_not_in_the_errors():
    prediction, batch = make_case()
    weighted = batch.replace(label_weights=np.array([[0.5, 2.0, 4.0], [3.0, 0.25, 1.0], [9.0, 9.0, 9.0]]))
    sums = error_sums(prediction, weighted)
    np.testing.assert_allclose(loss_from_sums(sums, WEIGHTS), weighted_loss(prediction, weighted, WEIGHTS), rtol=1e-12)
    assert summarize(sums) == summarize(error_sums(prediction, batch))


def test_loss_from_sums_of_one_batch_is_its_loss():
    np.testing.assert_allclose(loss_from_sums(error_sums(*make_case()), WEIGHTS), weighted_loss(*make_case(), WEIGHTS), rtol=1e-12)


def test_loss_from_sums_of_nothing_is_zero():
    nothing = jax.tree.map(np.zeros_like, error_sums(*make_case()))
    assert loss_from_sums(nothing, WEIGHTS) == 0 and summarize(nothing) == {}
