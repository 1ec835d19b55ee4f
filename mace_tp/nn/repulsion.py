"""Pair repulsion of bare nuclei at short range."""

import jax
import jax.numpy as jnp

from mace_tp.nn.radial import polynomial_cutoff

# Coulomb's constant e²/(4πε₀) in eV Å and the Bohr radius in Å, to the digits of ACEsuit's MACE, whose models must be read exactly.
_COULOMB = 14.3996
_BOHR = 0.529
# The universal screening function: amplitudes, and decay constants in units of 1/a.
SCREENING_AMPLITUDES = (0.1818, 0.5099, 0.2802, 0.02817)
_DECAYS = (3.2, 0.9423, 0.4028, 0.2016)
# a = prefactor · Bohr radius / (Z_i^power + Z_j^power), with the values of ACEsuit's MACE; Ziegler et al. have 0.8854 and 0.23.
SCREENING_PREFACTOR = 0.4543
SCREENING_POWER = 0.300


def zbl(lengths: jax.Array, charges: tuple[jax.Array, jax.Array], radii: jax.Array, power: int) -> jax.Array:
    """Screened Coulomb repulsion of two nuclei times an envelope that is zero once the covalent spheres no longer overlap.

    Args:
        lengths: distances [pairs], Å; infinite energy at zero.
        charges: atomic numbers of both atoms, each [pairs].
        radii: sum of the covalent radii [pairs], Å: the envelope is zero from there on.
        power: p of the envelope (`polynomial_cutoff`).

    Returns:
        Energy of each pair [pairs], eV.

    Source: Ziegler, Biersack, Littmark 1985, with the screening length and envelope of ACEsuit's MACE.
    """
    first, second = (charge.astype(lengths.dtype) for charge in charges)
    screening = SCREENING_PREFACTOR * _BOHR / (first**SCREENING_POWER + second**SCREENING_POWER)
    reduced = lengths / screening
    screened = sum(amplitude * jnp.exp(-decay * reduced) for amplitude, decay in zip(SCREENING_AMPLITUDES, _DECAYS, strict=True))
    return _COULOMB * first * second / lengths * screened * polynomial_cutoff(lengths, radii, power)
