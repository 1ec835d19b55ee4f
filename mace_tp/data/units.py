"""Warnings about likely wrong units: all-electron energies in Hartree, forces in kcal/mol/Å, stress in GPa or kbar."""

from collections.abc import Sequence

import numpy as np

from mace_tp.data.elements import symbols
from mace_tp.data.graphs import Graph

# eV/Å. In molecules at 1,200 K the root mean square is about 2 eV/Å; 1 eV/Å is 23 kcal/mol/Å.
_LARGE_FORCES = 20.0
# Hartree: all-electron ground states in the Hartree-Fock limit, H to Ar (Clementi and Roetti 1974). Density functionals agree within one
# percent.
_HARTREE_FOCK = (
    0.5, 2.862, 7.433, 14.573, 24.529, 37.689, 54.401, 74.809, 99.409, 128.547, 161.859, 199.615, 241.877, 288.854, 340.719, 397.505,
    459.482, 526.818,
)  # fmt: skip
# The last element whose energy the Thomas-Fermi series gives within the tolerance: relativity changes heavier atoms by more.
_LAST_ELEMENT = 36
# One Hartree in units that are mistaken for eV.
_UNITS = {"Hartree": 1.0, "kcal/mol": 627.509, "kJ/mol": 2625.5}
_SAME_ENERGY = 0.03
# Tolerance for a single element, whose energy with pseudopotentials may be anything; chemical bonds are still smaller.
_SAME_ENERGY_OF_ONE = 0.01
# eV/Å³ in one GPa and one kbar.
_PRESSURES = {"GPa": 1 / 160.21766, "kbar": 1 / 1602.1766}
# Deviatoric stress over its estimate from the forces: the median is 0.1 to 0.8 in silicon and Cu-Au, for cells of 4 to 96 atoms.
_USUAL_STRESS, _LARGE_STRESS_RATIO = 0.3, 10.0
# eV/Å³, 32 GPa: hardly any crystal bears this deviatoric stress. The ratio alone proves nothing, because strained cells with atoms near
# their ideal places also have small forces.
_LARGE_DEVIATORIC = 0.2
# eV/Å: the estimate needs frames with larger forces; and the least number of such frames.
_SOME_FORCES, _ENOUGH = 0.1, 5
# eV/Å³, 160 GPa.
_LARGE_STRESS = 1.0


def units_of_atomic_energies(atomic_numbers: Sequence[int], atomic_energies: Sequence[float]) -> list[str]:
    """Warn if the E0s [species] are all-electron energies in another unit than eV. All-electron energies of atoms are known."""
    known = [(number, energy) for number, energy in zip(atomic_numbers, atomic_energies, strict=True) if number <= len(_HARTREE_FOCK)]
    # One light atom alone may have such an energy by chance.
    if len(known) < 2:
        return []
    ratios = np.array([-energy / _HARTREE_FOCK[number - 1] for number, energy in known])
    listed = symbols(number for number, _ in known)
    return [
        f"the E0s of {listed} are those of all electrons in {unit}; labels must be in eV"
        for unit, size in _UNITS.items()
        if (np.abs(ratios / size - 1) < _SAME_ENERGY).all()
    ]


def units_of_total_energies(graphs: Sequence[Graph], atomic_numbers: Sequence[int], atomic_energies: Sequence[float]) -> list[str]:
    """Warn if the total energies are all-electron energies in another unit than eV.

    The tolerance exceeds the energy of the bonds. Frames with an element beyond krypton are ignored.

    Args:
        graphs: of one data set.
        atomic_numbers: Z of the species.
        atomic_energies: E0 of the species, eV, to recover total energies.
    """
    zero = np.asarray(atomic_energies)
    of_atoms = np.array([-_all_electrons(number) if number <= _LAST_ELEMENT else np.nan for number in atomic_numbers])
    labelled = [graph for graph in graphs if graph.interaction_energy is not None]
    ratios = np.array([(graph.interaction_energy + zero[graph.species].sum()) / of_atoms[graph.species].sum() for graph in labelled])
    known = np.isfinite(ratios)
    if not known.any():
        return []
    seen = np.unique(np.concatenate([graph.species for graph, is_known in zip(labelled, known, strict=True) if is_known]))
    tolerance = _SAME_ENERGY if len(seen) > 1 else _SAME_ENERGY_OF_ONE
    # Nearly all frames: single ones may have any energy.
    low, high = np.quantile(ratios[known], [0.05, 0.95])
    return [
        f"the total energies are those of all electrons in {unit}, {np.median(ratios[known]) / size:.3f} times the sum over the atoms; "
        "labels must be in eV, and forces in eV/Å"
        for unit, size in _UNITS.items()
        if size * (1 - tolerance) < low and high < size * (1 + tolerance)
    ]


def units_of_forces(graphs: Sequence[Graph]) -> list[str]:
    """Warn if the forces are very large."""
    forces = [graph.forces.ravel() for graph in graphs if graph.forces is not None]
    size = np.sqrt(np.mean(np.concatenate(forces) ** 2)) if forces else 0.0
    if size <= _LARGE_FORCES:
        return []
    return [f"forces of {size:.1f} eV/Å (root mean square) are very large; are they in kcal/mol/Å? Labels must be in eV/Å"]


def units_of_stress(graphs: Sequence[Graph]) -> list[str]:
    """Warn if the stress is much larger than the forces suggest, or than any material bears.

    The virial is the sum of r·F over the bonds. Forces F on N atoms at distances d in a volume V therefore imply a stress of about
    F d √N / V, besides the pressure. The pressure may have any value, so only the deviatoric part is compared.
    """
    stressed = [graph for graph in graphs if graph.stress is not None]
    if not stressed:
        return []
    sizes = np.array([_rms(graph.stress) for graph in stressed])
    said = f"stress of {np.median(sizes):.3g} eV/Å³ (median) is very large"
    moved = [graph for graph in stressed if graph.forces is not None and _rms(graph.forces) > _SOME_FORCES]
    ratios = [_deviatoric_ratio(graph) for graph in moved]
    ratio = np.median(ratios) if len(ratios) >= _ENOUGH else 0.0
    if ratio > _LARGE_STRESS_RATIO and np.median([_rms(_deviatoric(graph.stress)) for graph in moved]) > _LARGE_DEVIATORIC:
        # Soft and stiff crystals differ by more than the two units do, so both units are named.
        likely, other = sorted(_PRESSURES, key=lambda name: abs(np.log(ratio * _PRESSURES[name] / _USUAL_STRESS)))
        sizes = ", ".join(f"1 {name} = {size:.6g} eV/Å³" for name, size in _PRESSURES.items())
        return [f"{said} beside the forces; it is likely in {likely}, if not in {other}. Labels must be in eV/Å³: {sizes}"]
    if np.median(sizes) > _LARGE_STRESS and len(ratios) < _ENOUGH:
        return [f"{said}; is it in GPa or kbar, or a virial in eV? Labels must be in eV/Å³: 1 GPa = {_PRESSURES['GPa']:.6g} eV/Å³"]
    return []


def _all_electrons(number: int) -> float:
    """Minus the nonrelativistic energy of an atom with all its electrons, Hartree; within one percent beyond argon.

    Source: the Thomas-Fermi energy with its two corrections, Schwinger 1981, Phys. Rev. A 24, 2353.
    """
    if number <= len(_HARTREE_FOCK):
        return _HARTREE_FOCK[number - 1]
    return 0.768745 * number ** (7 / 3) - number**2 / 2 + 0.269900 * number ** (5 / 3)


def _deviatoric_ratio(graph: Graph) -> float:
    volume = abs(np.linalg.det(graph.cell))
    distance = (volume / graph.num_nodes) ** (1 / 3)
    return _rms(_deviatoric(graph.stress)) / (_rms(graph.forces) * distance * np.sqrt(graph.num_nodes) / volume)


def _deviatoric(stress: np.ndarray) -> np.ndarray:
    return stress - np.trace(stress) / 3 * np.eye(3)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
