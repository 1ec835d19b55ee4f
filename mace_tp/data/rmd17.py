"""Reader of the npz files of revised MD17: one molecule, many frames, energies and forces in kcal/mol."""

from pathlib import Path

import numpy as np

from mace_tp.data.ase_files import parser_errors
from mace_tp.data.configuration import Configuration, FileFrame
from mace_tp.data.labels import energy_label, forces_label
from mace_tp.errors import InputError

# eV: 4184 J over Avogadro's number and the elementary charge (exact, SI 2019).
KCAL_PER_MOL = 4184 / (6.02214076e23 * 1.602176634e-19)
_FIELDS = ("nuclear_charges", "coords", "energies", "forces")


def read_rmd17(path: Path) -> list[Configuration]:
    """The frames of an rMD17 archive, in eV and eV/Å.

    The archive holds `nuclear_charges` [atoms], `coords` [frames, atoms, 3] in Å, `energies` [frames] in kcal/mol and `forces`
    [frames, atoms, 3] in kcal/mol/Å. No frame is periodic.

    Raises:
        InputError: the archive is damaged, a field is missing, or shapes disagree.

    Source: Christensen and von Lilienfeld 2020, doi:10.6084/m9.figshare.12672038.
    """
    numbers, coords, energies, forces = _load(path)
    frames, atoms = len(energies), len(numbers)
    for name, array, shape in (("coords", coords, (frames, atoms, 3)), ("forces", forces, (frames, atoms, 3))):
        if array.shape != shape:
            raise InputError(f"{path}: {name} has shape {list(array.shape)}; {frames} energies of {atoms} atoms need {list(shape)}")
    if frames == 0:
        raise InputError(f"{path}: holds no frames; at least one is needed")
    return [_configuration(path, index, numbers, coords[index], energies[index], forces[index]) for index in range(frames)]


def _configuration(
    path: Path, index: int, numbers: np.ndarray, coords: np.ndarray, energy: np.float64, forces: np.ndarray
) -> Configuration:
    """One frame; coordinates in Å, energy and forces in kcal/mol."""
    source = f"{path} frame {index}"
    labels = {
        "energy": energy_label(energy * KCAL_PER_MOL, "energies", source),
        "forces": forces_label(forces * KCAL_PER_MOL, len(numbers), "forces", source),
    }
    return Configuration(
        atomic_numbers=numbers,
        positions=np.asarray(coords, np.float64),
        cell=np.zeros((3, 3)),
        pbc=(False, False, False),
        energy=labels["energy"],
        forces=labels["forces"],
        stress=None,
        config_type="",
        source=source,
        frame=FileFrame(path=str(path), index=index, results=labels, info={}, arrays={}, constraints=()),
    )


def _load(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    with parser_errors(lambda said: f"{path}: not a readable npz archive; it may be truncated ({said})"):
        with np.load(path, allow_pickle=False) as archive:
            present = archive.files
            fields = {name: archive[name] for name in _FIELDS if name in present}
        missing = [name for name in _FIELDS if name not in fields]
        if missing:
            raise InputError(f"{path}: lacks {', '.join(missing)}; it holds {', '.join(present)}; rMD17 has {', '.join(_FIELDS)}")
        coords, energies, forces = (fields[name].astype(np.float64) for name in _FIELDS[1:])
        return fields["nuclear_charges"].astype(np.int64).ravel(), coords, energies.ravel(), forces
