"""Files of open data sets → extended XYZ in eV, Å, eV/Å."""

import io
import re
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from mace_tp.data.rmd17 import read_rmd17
from mace_tp.errors import InputError

# CODATA 2018, as the files of SPICE are in atomic units.
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Å
_STRESS = re.compile(r"(?<!\S)stress=")


def convert(format: str, source: Path, folder: Path) -> list[Path]:
    """Convert one file into a folder; what it makes is complete or absent.

    Raises:
        InputError: the file is damaged, empty or of another format, or a package is missing that reads it.
    """
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
        try:
            made = FORMATS[format](source, Path(unfinished))
            empty = [path.name for path in made if not _begins_with_a_frame(path)]
        except (InputError, MemoryError):
            raise
        # Archives, decompressors and HDF5 raise exceptions of many kinds on a damaged file. No list is complete.
        except Exception as error:
            # What the system said of a disk has a number; a decompressor that finds damage raises an OSError without one.
            if isinstance(error, OSError) and error.errno is not None:
                raise InputError(f"{source}: cannot be converted into {folder} ({error.strerror})") from error
            raise InputError(
                f"{source}: damaged, or another file ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
            ) from error
        if not made or empty:
            raise InputError(f"{source}: holds nothing of what it should" + (f" (no frame for {', '.join(empty)})" if empty else ""))
        return [path.replace(folder / path.name) for path in made]


def _begins_with_a_frame(path: Path) -> bool:
    """Whether the first line is a number of atoms; to look at all frames would take minutes for the large sets."""
    with open(path, encoding="utf-8") as file:
        return file.readline(80).strip().isdecimal()


def _xyz(source: Path, folder: Path) -> list[Path]:
    """Extended XYZ in our units already."""
    return [Path(shutil.copyfile(source, folder / source.name))]


def _rmd17(source: Path, folder: Path) -> list[Path]:
    """The archive of rMD17: for each molecule the training and test configurations of split 01."""
    made: list[Path] = []
    members = _unpack(source, folder, r"rmd17_\w+\.npz|index_(train|test)_01\.csv")
    splits = {part: np.loadtxt(folder / f"index_{part}_01.csv", dtype=int, ndmin=1) for part in ("train", "test")}
    for arrays in (path for path in members if path.suffix == ".npz"):
        molecule = arrays.stem.removeprefix("rmd17_")
        frames = read_rmd17(arrays)
        for part, indices in splits.items():
            if not ((indices >= 0) & (indices < len(frames))).all():
                raise InputError(f"{source}: the split index_{part}_01.csv counts beyond the {len(frames)} frames of {molecule}")
            path = folder / f"{molecule}_{part}_01.extxyz"
            chosen = (frames[index] for index in indices)
            _write(path, (_atoms(f.atomic_numbers, f.positions, f.energy, f.forces) for f in chosen))
            made.append(path)
    return made


def _unpack(source: Path, folder: Path, pattern: str) -> list[Path]:
    """The members whose last name fits, in a folder under that name alone, sorted.

    In one pass: a compressed archive has no way back, so each step backwards would decompress it from its beginning.
    """
    unpacked: list[Path] = []
    with tarfile.open(source) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            file = archive.extractfile(member) if member.isfile() and re.fullmatch(pattern, name) else None
            if file is not None:
                with open(folder / name, "wb") as copy:
                    shutil.copyfileobj(file, copy)
                unpacked.append(folder / name)
    return sorted(unpacked)


def _extxyz_zip(source: Path, folder: Path) -> list[Path]:
    """An archive of extended XYZ, one after another; a stress, of whose unit and sign its files say nothing, becomes `raw_stress`.

    Members are read, never written under their own names.
    """
    path = folder / "mptrj.extxyz"
    with zipfile.ZipFile(source) as archive, open(path, "w", encoding="utf-8") as out:
        names = sorted(name for name in archive.namelist() if name.endswith(".extxyz"))
        for name in names:
            with io.TextIOWrapper(archive.open(name), encoding="utf-8") as lines:
                for line in lines:
                    out.write(_STRESS.sub("raw_stress=", line) if "=" in line else line)
    return [path] if names else []


def _spice(source: Path, folder: Path) -> list[Path]:
    """SPICE: energies and their gradients in atomic units, positions in bohr; the name of the subset is the configuration type."""
    try:
        import h5py
    except ImportError as error:
        raise InputError("SPICE is HDF5, which needs h5py: pip install h5py") from error
    path = folder / "spice.extxyz"
    with h5py.File(source) as file:
        _write(path, _spice_frames(file))
    return [path]


def _spice_frames(file) -> Iterator[ase.Atoms]:
    for name, group in file.items():
        numbers = group["atomic_numbers"][()]
        subset = group["subset"][()][0].decode() if "subset" in group else ""
        arrays = (group[key][()] for key in ("conformations", "dft_total_energy", "dft_total_gradient"))
        for positions, energy, gradient in zip(*arrays, strict=True):
            if np.isfinite(energy) and np.isfinite(gradient).all():
                atoms = _atoms(numbers, BOHR * positions, HARTREE * float(energy), -HARTREE / BOHR * gradient)
                atoms.info |= {"config_type": subset.replace(" ", "_"), "molecule": name}
                yield atoms


def _atoms(numbers: Sequence[int], positions: np.ndarray, energy: float, forces: np.ndarray) -> ase.Atoms:
    atoms = ase.Atoms(numbers, positions)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def _write(path: Path, frames: Iterator[ase.Atoms]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for atoms in frames:
            ase.io.write(file, atoms, format="extxyz")


FORMATS: dict[str, Callable[[Path, Path], list[Path]]] = {"xyz": _xyz, "rmd17": _rmd17, "extxyz_zip": _extxyz_zip, "spice": _spice}
"""(file, folder) → the files that it was converted into, in that folder."""
