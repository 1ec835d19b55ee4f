"""Units that are likely wrong: energies of all electrons in Hartree, forces in kcal/mol/Å, stress in GPa or kbar."""

from collections.abc import Sequence

import numpy as np

from mace_tp.data.elements import symbols
from mace_tp.data.graphs import Graph

# eV/Å. In molecules at 1,200 K the root mean square is about 2 eV/Å; 23 kcal/mol/Å are 1 eV/Å.
_LARGE_FORCES = 20.0
# Hartree, all electrons, of the ground state in the Hartree-Fock limit, H to Ar (Clementi and Roetti 1974). Density functionals give the
# same to one percent.
_HARTREE_FOCK = (
    0.5, 2.862, 7.433, 14.573, 24.529, 37.689, 54.401, 74.809, 99.409, 128.547, 161.859, 199.615, 241.877, 288.854, 340.719, 397.505,
    459.482, 526.818,
)  # fmt: skip
# The last element whose energy the Thomas-Fermi series gives to the tolerance: of heavier ones relativity is more than that.
_LAST_ELEMENT = 36
# How large one Hartree is in units that are taken for eV by mistake.
_UNITS = {"Hartree": 1.0, "kcal/mol": 627.509, "kJ/mol": 2625.5}
_SAME_ENERGY = 0.03
# The same for a single element, whose energy with pseudopotentials may be anything: a chemical bond is still less than that.
_SAME_ENERGY_OF_ONE = 0.01
# eV/Å³ in one GPa, and in one kbar.
_PRESSURES = {"GPa": 1 / 160.21766, "kbar": 1 / 1602.1766}
# Deviatoric stress over what the forces let expect: the median is 0.1 to 0.8 in silicon and Cu-Au, for cells of 4 to 96 atoms.
_USUAL_STRESS, _LARGE_STRESS_RATIO = 0.3, 10.0
# eV/Å³, 32 GPa: a deviatoric stress that hardly any crystal bears. Strained cells whose atoms have hardly moved have small forces, too.
_LARGE_DEVIATORIC = 0.2
# eV/Å: frames with smaller forces say nothing of the stress. And how many frames do.
_SOME_FORCES, _ENOUGH = 0.1, 5
# eV/Å³, 160 GPa.
_LARGE_STRESS = 1.0


def units_of_atomic_energies(atomic_numbers: Sequence[int], atomic_energies: Sequence[float]) -> list[str]:
    """All-electron energies of atoms are known, so that their unit is: lines of warning on E0s [species]."""
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
    """A line of warning where total energies are those of all electrons of the atoms in another unit than eV.

    The energy of the bonds is less than the tolerance. Frames with an element beyond krypton are not looked at.

    Args:
        graphs: of one part.
        atomic_numbers: Z of the species.
        atomic_energies: E0 of the species, eV, which give the total energies back.
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
    # Nearly all of them: one frame may be anything.
    low, high = np.quantile(ratios[known], [0.05, 0.95])
    return [
        f"the total energies are those of all electrons in {unit}, {np.median(ratios[known]) / size:.3f} times the sum over the atoms; "
        "labels must be in eV, and forces in eV/Å"
        for unit, size in _UNITS.items()
        if size * (1 - tolerance) < low and high < size * (1 + tolerance)
    ]


def units_of_forces(graphs: Sequence[Graph]) -> list[str]:
    """A line of warning where the forces are very large."""
    forces = [graph.forces.ravel() for graph in graphs if graph.forces is not None]
    size = np.sqrt(np.mean(np.concatenate(forces) ** 2)) if forces else 0.0
    if size <= _LARGE_FORCES:
        return []
    return [f"forces of {size:.1f} eV/Å (root mean square) are very large; are they in kcal/mol/Å? Labels must be in eV/Å"]


def units_of_stress(graphs: Sequence[Graph]) -> list[str]:
    """A line of warning where the stress is much larger than forces let expect, or than any material bears.

    The virial is the sum of r·F over the bonds. Forces F on N atoms at distances d in a volume V therefore come with a stress of about
    F d √N / V besides the pressure, which may be anything; so only the deviatoric part is compared.
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
        # The ratio of soft and stiff crystals differs by more than the two units do, so both are named.
        likely, other = sorted(_PRESSURES, key=lambda name: abs(np.log(ratio * _PRESSURES[name] / _USUAL_STRESS)))
        sizes = ", ".join(f"1 {name} = {size:.6g} eV/Å³" for name, size in _PRESSURES.items())
        return [f"{said} beside the forces; it is likely in {likely}, if not in {other}. Labels must be in eV/Å³: {sizes}"]
    if np.median(sizes) > _LARGE_STRESS and len(ratios) < _ENOUGH:
        return [f"{said}; is it in GPa or kbar, or a virial in eV? Labels must be in eV/Å³: 1 GPa = {_PRESSURES['GPa']:.6g} eV/Å³"]
    return []


def _all_electrons(number: int) -> float:
    """Minus the energy of an atom with all its electrons, Hartree, not relativistic; to one percent beyond argon.

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
