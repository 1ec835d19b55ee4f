"""Reads a file of `mace-tp export`: one compiled function, which needs jax and numpy but no code of the model."""

import contextlib
import dataclasses
import functools
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from mace_tp.edge_blocks import EDGE_BLOCK, fill_edge_blocks
from mace_tp.errors import InputError
from mace_tp.model.export.inputs import Structure, checked
from mace_tp.runtime.forked import refuse_fork

FORMAT = 2  # 1 took positions and shifts and subtracted them in the model's dtype
FUNCTION, DESCRIPTION = "function.bin", "description.json"
# Numbers of atoms and of blocks are rounded up to a few sizes, because every size is compiled.
_GROWTH = 1.2
# Å³; a cell of a smaller volume has no stress.
_NO_VOLUME = 1e-6
# Names of jax.export → names of jax.default_backend, where they differ.
_BACKENDS = {"cuda": "gpu", "rocm": "gpu"}


class Result(NamedTuple):
    """Energy, forces and stress of one structure, float64."""

    energy: float  # eV, E0s included
    energies: np.ndarray  # share of each atom, its E0 included [atoms], eV
    forces: np.ndarray  # [atoms, 3], eV/Å
    stress: np.ndarray | None  # [3, 3], eV/Å³, ASE's sign; None with direct forces, and for a cell without volume


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """A potential as one function of a structure and all its edges shorter than the cutoff."""

    cutoff: float  # Å
    atomic_numbers: tuple[int, ...]  # the elements that it knows, ascending Z
    atomic_energies: tuple[float, ...]  # E0 of each, eV
    dtype: str
    has_stress: bool
    function: jax.export.Exported

    def __call__(
        self, positions: np.ndarray, atomic_numbers: np.ndarray, senders: np.ndarray, receivers: np.ndarray, shifts: np.ndarray,
        cell: np.ndarray | None = None,
    ) -> Result:  # fmt: skip
        """Evaluate one structure.

        Args:
            positions: [atoms, 3], Å.
            atomic_numbers: Z [atoms].
            senders, receivers: atoms at both ends of the edges [edges], in any order, each edge in both directions. Edges longer than the
                cutoff change nothing.
            shifts: [edges, 3], Å: the edge vector is positions[receivers] - positions[senders] + shifts.
            cell: [3, 3], Å, rows are lattice vectors; None where nothing is periodic.

        Raises:
            InputError: the model does not know an element, the arrays are not a structure with all its edges, the result is not finite, or
                this process was forked after jax was used.
        """
        refuse_fork()
        structure = checked(positions, atomic_numbers, senders, receivers, shifts, cell)
        species = self._species(structure.atomic_numbers)
        outputs = self._compiled(*self._padded(structure, species), structure.cell.astype(self.dtype))
        node_energy, forces, stress = (np.asarray(output, np.float64) for output in outputs)
        energies, forces = np.asarray(self.atomic_energies)[species] + node_energy[: len(species)], forces[: len(species)]
        if not (np.isfinite(energies).all() and np.isfinite(forces).all()):
            raise InputError("energies or forces are not finite: are atoms much too close, or farther away than numbers reach?")
        with_stress = self.has_stress and abs(np.linalg.det(structure.cell)) > _NO_VOLUME
        return Result(float(energies.sum()), energies, forces, stress if with_stress else None)

    @functools.cached_property
    def _compiled(self) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
        return jax.jit(self.function.call)

    def _species(self, atomic_numbers: np.ndarray) -> np.ndarray:
        elements = np.asarray(self.atomic_numbers)
        unknown = ~np.isin(atomic_numbers, elements)
        if unknown.any():
            atom = int(np.argmax(unknown))
            raise InputError(f"atom {atom}: atomic number {atomic_numbers[atom]} is not one of the model's ({self.atomic_numbers})")
        return np.searchsorted(elements, atomic_numbers).astype(np.int32)

    def _padded(self, structure: Structure, species: np.ndarray) -> tuple[np.ndarray, ...]:
        """Arguments of the function: edges sorted by receiver, in blocks that share one, and all arrays padded to a common size."""
        order = np.argsort(structure.receivers, kind="stable")
        blocks = fill_edge_blocks(structure.senders[order], structure.receivers[order], structure.vectors[order], len(species))
        num_nodes = _common_size(len(species) + 1)
        num_edges = EDGE_BLOCK * _common_size(max(len(blocks[0]) // EDGE_BLOCK, 2))
        last = num_nodes - 1  # never an atom
        return (
            _filled(species, num_nodes), np.arange(num_nodes) < len(species),
            _filled(blocks[0], num_edges, last), _filled(blocks[1], num_edges, last), _filled(blocks[2].astype(self.dtype), num_edges),
            _filled(blocks[3], num_edges),
        )  # fmt: skip


def load_exported(path: str | Path) -> ExportedModel:
    """Read a file of `mace-tp export`.

    A function in float64 switches float64 on in jax for the whole process. Only the XLA program of the file is run, no Python code.

    Raises:
        InputError: there is no such file, or it is damaged, of another format or for another platform.
    """
    path = Path(path)
    with _explained(path), zipfile.ZipFile(path) as archive:
        description = json.loads(archive.read(DESCRIPTION))
        if (found := description.get("format")) != FORMAT:
            remedy = "export the model again" if found == 1 else "a newer version of mace-tp wrote it"
            raise InputError(f"{path}: format {found}, this version reads {FORMAT}; {remedy}")
        if description["dtype"] == "float64":
            jax.config.update("jax_enable_x64", True)
        _check_convention(path, description)
        function = jax.export.deserialize(bytearray(archive.read(FUNCTION)))
        if not runs_here(function.platforms):
            raise InputError(f"{path}: is for {' and '.join(function.platforms)}, and jax runs on {jax.default_backend()} here")
        return ExportedModel(
            cutoff=description["cutoff"],
            atomic_numbers=tuple(description["atomic_numbers"]),
            atomic_energies=tuple(description["atomic_energies"]),
            dtype=description["dtype"],
            has_stress=description["has_stress"],
            function=function,
        )


def runs_here(platforms: Sequence[str]) -> bool:
    """Whether jax in this process runs on one of these platforms of `jax.export`."""
    return jax.default_backend() in [_BACKENDS.get(name, name) for name in platforms]


def _check_convention(path: Path, description: dict[str, Any]) -> None:
    """Check the version of the program at once; jax itself checks it only at the first call."""
    least, most = jax.export.minimum_supported_calling_convention_version, jax.export.maximum_supported_calling_convention_version
    if not least <= description["calling_convention"] <= most:
        written = description["versions"]["jax"]
        raise InputError(f"{path}: written with jax {written}, which jax {jax.__version__} here cannot run; export the model again")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn every error of reading a file into one line. jax's readers raise arbitrary exceptions for a damaged program."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # jax's readers raise exceptions of any type
        raise InputError(f"{path}: not a file of `mace-tp export`, or damaged ({type(error).__name__}: {_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _common_size(number: int) -> int:
    """Round a number up to a common size: 1, 2, ... 8, and above that each size 1.2 times the one before."""
    size = 8
    while size < number:
        size = int(np.ceil(_GROWTH * size))
    return number if number < 8 else size


def _filled(values: np.ndarray, size: int, padding: Any = 0) -> np.ndarray:
    filled = np.full((size, *values.shape[1:]), padding, values.dtype)
    filled[: len(values)] = values
    return filled
