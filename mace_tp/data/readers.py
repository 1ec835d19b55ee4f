"""Readers of labelled structures: extended XYZ, all other formats of ASE, and rMD17 archives."""

import dataclasses
import io
import logging
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.io.extxyz import key_val_str_to_dict, read_xyz

from mace_tp.data import extended_xyz
from mace_tp.data.ase_files import ase_frames, parser_errors
from mace_tp.data.bad_frames import BadFrames
from mace_tp.data.configuration import Configuration, FileFrame, LabelKeys
from mace_tp.data.labels import energy_label, find_label, forces_label, stress_label
from mace_tp.data.rmd17 import read_rmd17
from mace_tp.data.unused import second_labels
from mace_tp.data.validation import check_configuration
from mace_tp.data.weights import frame_weights
from mace_tp.errors import InputError, one_line

_LOG = logging.getLogger("mace_tp")
_XYZ_SUFFIXES = (".xyz", ".extxyz")
# A stress of six numbers, which ASE's parser of comment lines refuses under these two names.
_VOIGT_STRESS = re.compile(r"(?<!\S)(stress|virial)=([\"'{])\s*((?:[^\s\"'{}]+[\s,]+){5}[^\s\"'{}]+)\s*[\"'}]")
_VOIGT_TO_MATRIX = (0, 5, 4, 5, 1, 3, 4, 3, 2)
# eV. Smaller differences of energies are rounding.
_SAME_ENERGY = 1e-4
_DEFAULT_KEYS = dataclasses.asdict(LabelKeys())
_LIKELY_KEYS = {
    "energy": ("energy", "REF_energy", "dft_energy", "DFT_energy", "free_energy", "total_energy", "Energy", "energies"),
    "forces": ("forces", "REF_forces", "dft_forces", "DFT_forces", "force", "dft_force", "DFT_force", "Forces"),
    "stress": (
        "stress", "REF_stress", "dft_stress", "DFT_stress", "Stress", "stresses", "virial", "virials", "REF_virial", "REF_virials",
        "dft_virial", "dft_virials", "DFT_virial", "DFT_virials", "Virial", "Virials",
    ),
}  # fmt: skip


def read_configurations(path: str | Path, keys: LabelKeys, *, skip_bad: bool = False) -> list[Configuration]:
    """Read every frame of a file.

    Extended XYZ (`.xyz`, `.extxyz`, also compressed as `.gz`, `.xz`, `.bz2`), rMD17 archives (`.npz`, in kcal/mol; they have no keys),
    and all other formats of ASE. The reader searches ASE's calculator results, `atoms.info` and `atoms.arrays` for each label;
    a missing label is None. Frames and atoms in messages count from 0, as in ASE.

    Args:
        path: the file.
        keys: names of the labels. A stress key that contains `virial` names a virial in eV; the stress is -virial / volume.
        skip_bad: log frames that cannot be used and continue. If ASE fails at a frame, the frames before it are used.

    Raises:
        InputError: the file is missing, empty, truncated or not readable, a label or position is not finite, an element is unknown,
            a frame has no atoms, two atoms are at the same place, or a cell is not valid.
    """
    path = _existing_file(path)
    bad = BadFrames(skip_bad)
    configurations: list[Configuration] = []
    if path.suffix == ".npz":
        for configuration in read_rmd17(path):
            with bad.of_one_frame():
                check_configuration(configuration)
                configurations.append(configuration)
    else:
        frames = list(_frames(path, bad))
        _warn_of_second_labels([atoms for _, atoms in frames], keys, path)
        _warn_of_free_energy([atoms for _, atoms in frames], keys, path)
        for index, atoms in frames:
            with bad.of_one_frame():
                configuration = _configuration(atoms, keys, str(path), index)
                check_configuration(configuration)
                configurations.append(configuration)
    bad.report(str(path), len(configurations))
    return configurations


def require_labels(configurations: Sequence[Configuration], keys: LabelKeys, need: Sequence[str], path: str | Path) -> None:
    """Require that some frame of a file has each field of `need` (`energy`, `forces`, `stress`), and each field with a non-default key.

    If frames lack another field, a warning suggests the key under which it may be stored.

    Raises:
        InputError: no frame has them; lists the keys in the file.
    """
    names = dataclasses.asdict(keys)
    missing = {field: key for field, key in names.items() if all(frame.labels[field] is None for frame in configurations)}
    required = {field: key for field, key in missing.items() if field in need or key != _DEFAULT_KEYS[field]}
    hint_at_labels(configurations, {field: key for field, key in names.items() if field not in required}, path)
    if required:
        present = _names(configurations)
        likely = {field: next((name for name in _LIKELY_KEYS[field] if name in present), None) for field in required}
        wanted = " nor ".join(f"{field} under the key {key!r}" for field, key in required.items())
        raise InputError(f"{path}: no frame has {wanted}; keys there: {', '.join(present) or 'none'}{_advice(likely, required)}")


def hint_at_labels(configurations: Sequence[Configuration], keys: Mapping[str, str], path: str | Path) -> None:
    """Log the keys under which labels may be stored that all or some frames of a file lack.

    Args:
        configurations: the frames.
        keys: {field: key} of the expected labels.
        path: for messages.
    """
    for field, key in keys.items():
        lacking = [frame for frame in configurations if frame.labels[field] is None and (field != "stress" or any(frame.pbc))]
        present = _names(lacking)
        name = next((name for name in _LIKELY_KEYS[field] if name in present and name != key), None)
        if name is None:
            continue
        if all(frame.labels[field] is None for frame in configurations):
            advice = _advice({field: name}, [field])
            _LOG.warning("%s: no frame has %s under the key %r, so none is used%s", path, field, key, advice)
        else:
            frames = [frame for frame in lacking if name in _names([frame])]
            count, where = f"{len(frames)} of {len(configurations)} frames", f"first {frames[0].source}"
            said = f"have no {field} under the key {key!r} but {name}, which is not used, {where}"
            _LOG.warning("%s: %s %s; write the %s of all frames under one key", path, count, said, field)


def _names(configurations: Sequence[Configuration]) -> list[str]:
    """All names in the frames that could hold a label, sorted."""
    places = (place for c in configurations if c.frame is not None for place in (c.frame.results, c.frame.info, c.frame.arrays))
    return sorted({name for place in places for name in place} - {"config_type"})


def _advice(likely: Mapping[str, str | None], fields: Iterable[str]) -> str:
    """Options of a training and of an evaluation that set the likely keys of the fields."""
    found = [(field, likely[field]) for field in fields if likely[field] is not None]
    training = " ".join(f"data.{field}_key={name}" for field, name in found)
    evaluation = " ".join(f"--{field}-key {name}" for field, name in found)
    return f"; set {training} (evaluate: {evaluation})" if found else ""


def label_keys(path: str | Path) -> list[str]:
    """All names in a file that could hold a label, sorted."""
    path = _existing_file(path)
    if path.suffix == ".npz":
        return ["energies", "forces"]
    names = {name for _, atoms in _frames(path, BadFrames(skip=True)) for place in _places(atoms) for name in place}
    return sorted(names - {"numbers", "positions", "config_type"})


def _existing_file(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a directory; a file of structures is needed")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; at least one frame is needed")
    return path


def _frames(path: Path, bad: BadFrames) -> Iterator[tuple[int, ase.Atoms]]:
    """Frames with their indices in the file."""
    if is_extended_xyz(path):
        return _extended_xyz_frames(path, bad)
    return enumerate(ase_frames(path, bad))


def is_extended_xyz(path: Path) -> bool:
    """Whether the name of a file is that of extended XYZ, compressed or not."""
    name = path.name.removesuffix(path.suffix) if path.suffix in extended_xyz.COMPRESSED else path.name
    return Path(name).suffix.lower() in _XYZ_SUFFIXES


def _extended_xyz_frames(path: Path, bad: BadFrames) -> Iterator[tuple[int, ase.Atoms]]:
    lines = _lines(path)
    for frame in extended_xyz.scan(lines, str(path), bad):
        atoms = None
        with bad.of_one_frame():
            atoms = _read_frame(lines, frame, path)
        if atoms is not None:
            yield frame.index, atoms


def _read_frame(lines: Sequence[str], frame: extended_xyz.Frame, path: Path) -> ase.Atoms:
    text = io.StringIO("".join(lines[frame.start : frame.stop]))

    def describe(said: str) -> str:
        extended_xyz.explain(lines, frame, str(path))  # raises if it finds the faulty word
        return f"{path} frame {frame.index} (line {frame.line}): cannot be read ({said})"

    with parser_errors(describe):
        return next(read_xyz(text, slice(None), properties_parser=_parse_comment))


def _lines(path: Path) -> list[str]:
    try:
        with extended_xyz.COMPRESSED.get(path.suffix, open)(path, "rt", encoding="utf-8-sig") as file:
            return list(file)
    except EOFError as error:
        raise InputError(f"{path}: the compressed file is truncated ({one_line(error)})") from error
    except (OSError, UnicodeDecodeError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: cannot be read as text ({one_line(error)})") from error


def _parse_comment(line: str) -> dict[str, Any]:
    return key_val_str_to_dict(_VOIGT_STRESS.sub(_matrix_from_voigt, line))


def _matrix_from_voigt(match: re.Match) -> str:
    words = match.group(3).replace(",", " ").split()
    return f'{match.group(1)}="{" ".join(words[index] for index in _VOIGT_TO_MATRIX)}"'


def _places(atoms: ase.Atoms) -> tuple[Mapping[str, Any], ...]:
    # The bare results, because get_forces() would apply constraints.
    results = {} if atoms.calc is None else atoms.calc.results
    return results, atoms.info, atoms.arrays


def _configuration(atoms: ase.Atoms, keys: LabelKeys, path: str, index: int) -> Configuration:
    source, places = f"{path} frame {index}", _places(atoms)
    results, info, arrays = places
    return Configuration(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=np.asarray(atoms.positions, np.float64),
        cell=np.array(atoms.cell, np.float64),
        pbc=tuple(bool(periodic) for periodic in atoms.pbc),
        energy=energy_label(find_label(keys.energy, places), keys.energy, source),
        forces=forces_label(find_label(keys.forces, places), len(atoms), keys.forces, source),
        stress=stress_label(find_label(keys.stress, places), atoms.cell.volume, keys.stress, source),
        config_type=str(atoms.info.get("config_type", "")),
        source=source,
        frame=FileFrame(
            path=path,
            index=index,
            results=results,
            info=info,
            arrays={name: values for name, values in arrays.items() if name not in ("numbers", "positions")},
            constraints=atoms.constraints,
        ),
        weights=frame_weights(info, keys, source),
    )


def _warn_of_second_labels(frames: Sequence[ase.Atoms], keys: LabelKeys, path: Path) -> None:
    for field, key, other, count in second_labels([_places(atoms) for atoms in frames], keys):
        both = f"has both {key} and {other}; {key} is used (data.{field}_key={other} for the other)"
        _LOG.warning("%s: %s; they differ in %d of %d frames", path, both, count, len(frames))


def _warn_of_free_energy(frames: Sequence[ase.Atoms], keys: LabelKeys, path: Path) -> None:
    """ASE's `energy` is extrapolated to zero smearing; the forces are the gradient of its `free_energy`."""
    if keys.energy != _DEFAULT_KEYS["energy"]:
        return
    both = [(len(atoms), *(find_label(key, _places(atoms)) for key in ("energy", "free_energy"))) for atoms in frames]
    # Values that are no numbers are an error of the label readers if they are used.
    gaps = [(abs(energy - free), num_atoms) for num_atoms, energy, free in both if isinstance(energy, float) and isinstance(free, float)]
    if any(gap > _SAME_ENERGY for gap, _ in gaps):
        _LOG.warning(
            "%s: energy is used; it differs from free_energy by up to %.1f meV/atom, and the forces belong to free_energy "
            "(data.energy_key=free_energy uses it)",
            path,
            1000 * max(gap / num_atoms for gap, num_atoms in gaps),
        )
