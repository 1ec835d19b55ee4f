"""Repulsion of nuclei: the closed form, where it ends, and its place in the model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.model.programs import make_predict
from mace_tp.nn.repulsion import zbl


def test_repulsion_is_the_screened_coulomb_energy():
    """Carbon and oxygen at 0.5 Å, by hand: a = 0.4543 · 0.529 / (6^0.3 + 8^0.3)."""
    length, radius = 0.5, 1.42
    a = 0.4543 * 0.529 / (6**0.3 + 8**0.3)
    screened = sum(c * np.exp(-d * length / a) for c, d in [(0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016)])
    t = length / radius
    envelope = 1 - 21 * t**5 + 35 * t**6 - 15 * t**7

    energy = zbl(jnp.array([length]), (jnp.array([6]), jnp.array([8])), jnp.array([radius]), 5)

    np.testing.assert_allclose(energy, [14.3996 * 48 / length * screened * envelope], rtol=1e-12)


def test_repulsion_and_its_slope_end_where_covalent_spheres_part():
    value, slope = jax.value_and_grad(lambda r: zbl(r, (jnp.array(6), jnp.array(8)), jnp.array(1.42), 5))(1.42)
    assert value == 0 and slope == 0


@pytest.mark.parametrize("cutoff", [4.0, 1.3])
def test_only_atoms_that_overlap_repel_each_other(make_model, make_batch, architecture, statistics, molecule, cutoff):
    """Formaldehyde, of which C=O and C-H are closer than their covalent radii; with the smaller cutoff padding is, too."""
    plain = dataclasses.replace(architecture, cutoff=cutoff)
    batch = make_batch(molecule)
    energies = []
    for shape in (plain, dataclasses.replace(plain, pair_repulsion="zbl")):
        graphdef, params = make_model(shape)
        energies.append(jax.jit(make_predict(graphdef))(params, batch).energy[0])
    distances = np.linalg.norm(molecule.positions[0] - molecule.positions[1:], axis=1)
    charges, radii = (jnp.full(3, 6), jnp.array([8, 1, 1])), 0.76 + np.array([0.66, 0.31, 0.31])
    expected = zbl(jnp.asarray(distances), charges, jnp.asarray(radii), plain.cutoff_power)
    assert (np.asarray(expected) > 1e-3).sum() >= 1
    np.testing.assert_allclose(energies[1] - energies[0], statistics.scale * expected.sum(), rtol=1e-9)
