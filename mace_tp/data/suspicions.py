"""What in a data set is likely a mistake: units, signs, atomic energies, structures that occur twice. Warnings, never errors."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from mace_tp.data.elements import symbols
from mace_tp.data.graphs import Graph

# eV per atom. Chemical bonds bind an atom by less than 15 eV; more means that the E0s belong to another method.
_LARGE_INTERACTION_ENERGY = 50.0
# Å. Half of the shortest bond, that of H2 (0.74 Å), is never reached at thermal energies.
_SHORT_DISTANCE = 0.3
# eV/Å. In molecules at 1,200 K the root mean square is about 2 eV/Å; 23 kcal/mol/Å are 1 eV/Å.
_LARGE_FORCES = 20.0
# Å. Two structures whose atoms are all this near are one.
_SAME_STRUCTURE = 1e-4
# Hartree, all electrons, of the ground state in the Hartree-Fock limit, H to Ar (Clementi and Roetti 1974). Density functionals give the
# same to one percent.
_HARTREE_FOCK = (
    0.5, 2.862, 7.433, 14.573, 24.529, 37.689, 54.401, 74.809, 99.409, 128.547, 161.859, 199.615, 241.877, 288.854, 340.719, 397.505,
    459.482, 526.818,
)  # fmt: skip
# How large one Hartree is in units that are taken for eV by mistake.
_UNITS = {"Hartree": 1.0, "kcal/mol": 627.509, "kJ/mol": 2625.5}
_SAME_ENERGY = 0.03
# Configurations of one composition, the spread of their volumes, and the correlation of stress and volume that is no accident.
_ENOUGH, _ENOUGH_SPREAD, _AGAINST = 8, 0.01, -0.7


def suspicions(
    parts: Mapping[str, Sequence[Graph]], atomic_numbers: Sequence[int], atomic_energies: Sequence[float], *, energies_are_fitted: bool
) -> list[str]:
    """Lines of warning.

    Args:
        parts: {name: graphs} of training, validation and test sets.
        atomic_numbers: Z of the species.
        atomic_energies: E0 of the species, eV.
        energies_are_fitted: whether the E0s are from least squares; what they mean is then not known.
    """
    lines = [] if energies_are_fitted else _units_of_energies(atomic_numbers, atomic_energies)
    for name, graphs in parts.items():
        lines += [f"{name}: {line}" for line in (*_energies(graphs), *_forces(graphs), *_stresses(graphs), *_structures(graphs))]
    return lines + _duplicates(parts)


def _energies(graphs: Sequence[Graph]) -> list[str]:
    far = [graph for graph in graphs if abs(graph.interaction_energy or 0.0) > _LARGE_INTERACTION_ENERGY * graph.num_nodes]
    if not far:
        return []
    where = f"{_where(far)} ({far[0].interaction_energy / far[0].num_nodes:.1f} eV/atom)"
    return [
        f"E - ΣE0 beyond {_LARGE_INTERACTION_ENERGY:.0f} eV/atom in {where}; do the atomic energies come from the same method, in eV, "
        "and are the labels total energies?"
    ]


def _units_of_energies(atomic_numbers: Sequence[int], atomic_energies: Sequence[float]) -> list[str]:
    """All-electron energies of atoms are known, so that their unit is."""
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


def _forces(graphs: Sequence[Graph]) -> list[str]:
    forces = [graph.forces.ravel() for graph in graphs if graph.forces is not None]
    size = np.sqrt(np.mean(np.concatenate(forces) ** 2)) if forces else 0.0
    if size <= _LARGE_FORCES:
        return []
    return [f"forces of {size:.1f} eV/Å (root mean square) are very large; are they in kcal/mol/Å? Labels must be in eV/Å"]


def _stresses(graphs: Sequence[Graph]) -> list[str]:
    """Between structures of one composition tr σ / 3 = dE/dV rises with the volume, or the crystal would not be stable.

    Energies say less: those of a simulation at several temperatures need not have their least at the volume without stress.
    """
    groups: dict[tuple, list[Graph]] = collections.defaultdict(list)
    for graph in graphs:
        if graph.stress is not None:
            groups[tuple(np.bincount(graph.species))].append(graph)
    for group in groups.values():
        volumes = np.array([abs(np.linalg.det(graph.cell)) for graph in group])
        tensions = np.array([np.trace(graph.stress) / 3 for graph in group])
        if len(group) < _ENOUGH or np.std(volumes) < _ENOUGH_SPREAD * np.mean(volumes) or np.std(tensions) == 0:
            continue
        if np.corrcoef(tensions, volumes)[0, 1] < _AGAINST:
            return [
                f"the stress falls as the cell grows, in {_where(group)}; is its sign ASE's, positive under tension, and not a virial's?"
            ]
    return []


def _structures(graphs: Sequence[Graph]) -> list[str]:
    near = [graph for graph in graphs if _shortest(graph) < _SHORT_DISTANCE]
    lone = [graph for graph in graphs if graph.num_nodes == 1 and not graph.cell.any()]
    lines = [f"atoms closer than {_SHORT_DISTANCE} Å in {_where(near)} ({_shortest(near[0]):.3f} Å)"] if near else []
    if lone:
        lines.append(f"single atoms in {_where(lone)}; config_type=IsolatedAtom makes them E0s instead of training data")
    return lines


def _duplicates(parts: Mapping[str, Sequence[Graph]]) -> list[str]:
    lines: list[str] = []
    seen: dict[str, dict[bytes, Graph]] = {}
    for name, graphs in parts.items():
        twice: dict[str, list[tuple[Graph, Graph]]] = collections.defaultdict(list)
        seen[name] = {}
        for graph in graphs:
            key = _structure(graph)
            for other, known in seen.items():
                if key in known:
                    twice[other].append((graph, known[key]))
            seen[name].setdefault(key, graph)
        for other, pairs in twice.items():
            where = f"{pairs[0][0].source} is {pairs[0][1].source}"
            what = "more than once" if other == name else f"also in {other}"
            lines.append(f"{name}: {len(pairs)} of {len(graphs)} structures are there {what}, the first: {where}")
    return lines


def _structure(graph: Graph) -> bytes:
    lengths = (np.concatenate([graph.positions, graph.cell]) / _SAME_STRUCTURE).round().astype(np.int64)
    return graph.species.tobytes() + lengths.tobytes()


def _where(graphs: Sequence[Graph]) -> str:
    return f"{len(graphs)} configurations, first {graphs[0].source}"


def _shortest(graph: Graph) -> float:
    return float(graph.lengths().min(initial=np.inf))
