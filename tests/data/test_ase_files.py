"""Files of ASE's parsers: whatever a parser raises is one line, and a calculation that was cut off is told."""

import gzip
import logging
from pathlib import Path

import ase
import ase.db
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

import mace_tp.data.ase_files
from mace_tp.data.ase_files import read_structure
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import read_configurations
from mace_tp.errors import InputError

CIF = """data_si
_symmetry_space_group_name_H-M 'F d -3 m:2'
_cell_length_a 5.43
_cell_length_b 5.43
_cell_length_c 5.43
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 Si 0.125 0.125 0.125
"""
# ASE's parsers raise exceptions of their own on these, derived from Exception itself.
BROKEN = {"OUTCAR": "junk\nmore\n", "a.cif": CIF, "OUTCAR.gz": "junk\nmore\n", "POSCAR": "junk\n1\n", "a.db": "junk", "a.json": "{}"}


def write_text(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_a_parser_raises_is_one_line_with_the_name_of_the_file(name, tmp_path):
    path = write_text(tmp_path / name, BROKEN[name])
    for read in (lambda: read_configurations(path, LabelKeys()), lambda: read_structure(path, 0)):
        with pytest.raises(InputError, match=f"{name}.*: ASE cannot read it") as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["a.traj", "a.xyz"])
def test_what_says_nothing_about_the_file_passes(name, error, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    ase.io.write(tmp_path / name, ase.Atoms("H"))
    monkeypatch.setattr(ase.io, "iread", fail)
    monkeypatch.setattr(mace_tp.data.readers, "read_xyz", fail)
    with pytest.raises(error):
        read_configurations(tmp_path / name, LabelKeys())


def vasprun(num_steps: int, energy: float = -5.0, free_energy: float = -5.1) -> str:
    """A calculation of H2 as VASP writes it, as short as ASE reads it."""

    def vectors(name: str, rows: np.ndarray) -> str:
        return f'<varray name="{name}">' + "".join(f"<v>{' '.join(map(str, row))}</v>" for row in rows) + "</varray>\n"

    places = vectors("positions", np.array([[0.0, 0, 0], [0.0, 0, 0.1]]))
    structure = f"<crystal>{vectors('basis', 8 * np.eye(3))}</crystal>{places}</structure>\n"
    energies = f'<energy><i name="e_fr_energy">{free_energy}</i><i name="e_0_energy">{energy}</i></energy>\n'
    step = f"<calculation><scstep>{energies}</scstep><structure>{structure}{vectors('forces', np.eye(3)[:2])}{energies}</calculation>\n"
    atoms = '<atominfo><array name="atoms"><set><rc><c>H</c></rc><rc><c>H</c></rc></set></array></atominfo>\n'
    kpoints = '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>\n'
    first = f'<structure name="initialpos">{structure}'
    return f"<?xml version='1.0'?>\n<modeling>\n{kpoints}{atoms}{first}{num_steps * step}</modeling>\n"


@pytest.mark.parametrize("name", ["vasprun.xml", "vasprun.xml.gz"])
def test_a_calculation_that_was_cut_off_is_a_bad_frame(name, tmp_path, caplog):
    text = vasprun(4)
    assert len(read_configurations(write_text(tmp_path / name, text), LabelKeys())) == 4
    write_text(tmp_path / name, text[: text.rindex("<calculation>") + 30])

    with pytest.raises(InputError, match=f"{name} frame 3: the file ends before this frame is complete; it is truncated"):
        read_configurations(tmp_path / name, LabelKeys())
    assert len(read_configurations(tmp_path / name, LabelKeys(), skip_bad=True)) == 3
    assert "frame 3: the file ends" in caplog.text


OUTCAR_HEADER = """ POTCAR:    PAW_PBE H 15Jun2001
 POTCAR:    PAW_PBE H 15Jun2001
   ISPIN  =      1    spin polarized calculation?
   ions per type =               2
--------------------------------------- Iteration      1(   1)  ---------------------------------------
"""
OUTCAR_STEP = """      direct lattice vectors                 reciprocal lattice vectors
     8.000000000  0.000000000  0.000000000     0.125000000  0.000000000  0.000000000
     0.000000000  8.000000000  0.000000000     0.000000000  0.125000000  0.000000000
     0.000000000  0.000000000  8.000000000     0.000000000  0.000000000  0.125000000

 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.00000      0.00000      0.00000         1.000000      0.000000      0.000000
      0.00000      0.00000      0.80000        -1.000000      0.000000      0.000000
 -----------------------------------------------------------------------------------

  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =        -5.10000000 eV

  energy  without entropy=       -4.90000000  energy(sigma->0) =       -5.00000000
"""
OUTCAR_END = " General timing and accounting informations for this job:\n ========================================================\n"


def test_an_outcar_that_was_cut_off_is_a_bad_frame(tmp_path):
    (tmp_path / "OUTCAR").write_text(OUTCAR_HEADER + 2 * OUTCAR_STEP + OUTCAR_END)
    assert [frame.energy for frame in read_configurations(tmp_path / "OUTCAR", LabelKeys())] == [-5.0, -5.0]

    (tmp_path / "OUTCAR").write_text(OUTCAR_HEADER + 2 * OUTCAR_STEP + OUTCAR_STEP[:200])

    with pytest.raises(InputError, match="OUTCAR frame 2: the file ends before"):
        read_configurations(tmp_path / "OUTCAR", LabelKeys())
    assert len(read_configurations(tmp_path / "OUTCAR", LabelKeys(), skip_bad=True)) == 2

    whole = OUTCAR_HEADER + 2 * OUTCAR_STEP
    for end in ("-5", "-5.000"):
        (tmp_path / "OUTCAR").write_text(whole[: whole.rindex("-5.00000000")] + end)
        assert len(read_configurations(tmp_path / "OUTCAR", LabelKeys(), skip_bad=True)) == 1, "an energy without its last digits"


@pytest.mark.parametrize("name", ["a.traj", "a.json", "a.db", "a.extxyz", "a.extxyz.gz", "a.extxyz.xz", "a.extxyz.bz2"])
def test_a_file_that_is_cut_is_refused_or_has_all_frames(name, tmp_path):
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((2, 3)))
    ase.io.write(tmp_path / name, [atoms] * 4)
    whole = (tmp_path / name).read_bytes()
    # Behind the last line of a frame in plain text nothing shows that there was another.
    ends = {place + 1 for place in range(len(whole)) if whole[place : place + 3] == b"\n2\n"} if name == "a.extxyz" else set()
    for place in [place for place in range(1, len(whole) - 1, max(len(whole) // 30, 1)) if place not in ends]:
        (tmp_path / name).write_bytes(whole[:place])
        try:
            read = read_configurations(tmp_path / name, LabelKeys())
        except InputError as error:
            assert name in str(error)
        else:  # the last pages of a database hold nothing of its rows
            assert [frame.energy for frame in read] == [-1.0] * 4


@pytest.mark.parametrize("name", ["a.db", "a.json"])
def test_labels_stored_as_pairs_and_as_data_of_a_row(name, tmp_path):
    with ase.db.connect(tmp_path / name) as database:
        database.write(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), key_value_pairs={"dft_energy": -2.5}, data={"dft_forces": np.eye(3)[:2]})

    [configuration] = read_configurations(tmp_path / name, LabelKeys(energy="dft_energy", forces="dft_forces"))

    assert configuration.energy == -2.5
    np.testing.assert_array_equal(configuration.forces, np.eye(3)[:2])


def test_at_sign_in_a_name_is_no_index(tmp_path):
    ase.io.write(tmp_path / "a.traj", [ase.Atoms("H"), ase.Atoms("O")])
    (tmp_path / "a.traj").rename(tmp_path / "run@1.traj")
    assert [frame.atomic_numbers.tolist() for frame in read_configurations(tmp_path / "run@1.traj", LabelKeys())] == [[1], [8]]
    assert read_structure(tmp_path / "run@1.traj", -1).numbers.tolist() == [8]


def test_a_free_energy_that_differs_is_told_once(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    path = write_text(tmp_path / "vasprun.xml", vasprun(3))

    assert [frame.energy for frame in read_configurations(path, LabelKeys())] == [-5.0] * 3

    [record] = caplog.records
    for said in ("vasprun.xml", "energy is used", "free_energy", "50.0 meV/atom", "data.energy_key=free_energy"):
        assert said in record.getMessage()
    caplog.clear()
    assert read_configurations(path, LabelKeys(energy="free_energy"))[0].energy == pytest.approx(-5.1)
    read_configurations(write_text(path, vasprun(3, -5.1, -5.1)), LabelKeys())
    assert not caplog.records
