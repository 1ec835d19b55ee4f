"""Extended XYZ that cannot be used ends in one line that names the file, the frame and what is wrong."""

import gzip
import lzma

import numpy as np
import pytest

from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import read_configurations
from mace_tp.errors import InputError

HEADER = "Properties=species:S:1:pos:R:3:forces:R:3 energy=-14.25"
ATOMS = (
    "O 0.000000 0.000000 0.119000 0.100000 0.200000 0.300000",
    "H 0.000000 0.763000 -0.477000 0.000000 0.000000 0.000000",
    "H 0.000000 -0.763000 -0.477000 -0.100000 -0.200000 -0.300000",
)
FRAME = "\n".join(("3", HEADER, *ATOMS)) + "\n"


def _frame(*, header: str = HEADER, atoms: tuple[str, ...] = ATOMS, count: str = "3") -> str:
    return "\n".join((count, header, *atoms)) + "\n"


def _with_atom(index: int, line: str) -> str:
    return _frame(atoms=tuple(line if atom == index else old for atom, old in enumerate(ATOMS)))


BAD_FILES = {
    "empty": ("", r"train.xyz: the file is empty"),
    "blank": (" \n\n", r"train.xyz: the file is empty"),
    "fewer atom lines": (
        FRAME + "3\n" + HEADER + "\n" + ATOMS[0] + "\n",
        r"frame 1 \(line 6\): the file ends after 1 of 3 atom lines; it is trunc",
    ),
    "only a count": (FRAME + "3\n", r"frame 1 \(line 6\): the file ends after 0 of 3"),
    "fewer atom lines before another frame": (
        _frame(atoms=ATOMS[:2]) + FRAME,
        r"frame 0 .*: atom 2 of 3 \(line 5\) has 1 columns, 7 are announced",
    ),
    "more atom lines": (_frame(count="2") + FRAME, r"frame 1 \(line 5\): expected the number of atoms .* found 'H 0.0"),
    "columns cut in the last line": (FRAME[:-30], r"frame 0 .*: atom 2 of 3 \(line 5\) has 4 columns, 7 are .*; the file is cut"),
    "last number cut": (FRAME[:-3], r"frame 0, atom 2 \(line 5\): the file ends in the number '-0.3000', shorter .* truncated"),
    "more columns than announced": (_with_atom(1, ATOMS[1] + " 7"), r"atom 1 of 3 \(line 4\) has 8 columns, 7 are announced"),
    "no atoms": ("0\n" + HEADER + "\n", r"frame 0 \(line 1\): announces 0 atoms"),
    "negative count": ("-3\n" + HEADER + "\n", r"announces -3 atoms"),
    "Properties that are none": (
        _frame(header="Properties=species:S:1:pos:R energy=1"),
        r"Properties=species:S:1:pos:R is not a list of name:type",
    ),
    "unknown symbol": (
        FRAME + _with_atom(2, ATOMS[2].replace("H", "Hx")),
        r"frame 1, atom 2 \(line 10, column 1\): unknown chemical symbol 'Hx'",
    ),
    "placeholder element": (_with_atom(2, ATOMS[2].replace("H", "X")), r"frame 0, atom 2: unknown element, atomic number 0"),
    "stars": (
        _with_atom(0, ATOMS[0].replace("0.119000", "********")),
        r"frame 0, atom 0 \(line 3, column 4\): pos holds '\*+', which is not a number",
    ),
    "Fortran exponent": (
        _with_atom(1, ATOMS[1].replace("0.763000", "7.63D-01")),
        r"atom 1 \(line 4, column 3\): pos holds '7.63D-01', which is not a number",
    ),
    "Fortran exponent in the energy": (
        _frame(header=HEADER.replace("-14.25", "-1.4D+01")),
        r"frame 0: energy holds '-1.4D\+01', which is not a number",
    ),
    "stars in the energy": (_frame(header=HEADER.replace("-14.25", "*****")), r"frame 0: energy holds '\*+', which is not"),
    "energy without a value": (_frame(header=HEADER.replace("=-14.25", "")), r"frame 0: energy holds 'True', which is not"),
    "two energies": (_frame(header=HEADER.replace("-14.25", '"1 2"')), r"frame 0: energy holds 2 numbers"),
    "NaN energy": (FRAME + _frame(header=HEADER.replace("-14.25", "nan")), r"frame 1: energy holds nan"),
    "infinite energy": (_frame(header=HEADER.replace("-14.25", "-inf")), r"frame 0: energy holds -inf"),
    "NaN force": (_with_atom(2, ATOMS[2].replace("-0.300000", "NaN")), r"frame 0, atom 2: forces holds nan"),
    "NaN position": (_with_atom(1, ATOMS[1].replace("0.763000", "nan")), r"frame 0, atom 1: positions holds nan"),
    "infinite stress": (_frame(header=HEADER + ' stress="1 0 0 0 inf 0 0 0 1"'), r"frame 0: stress holds inf"),
    "stress of five numbers": (_frame(header=HEADER + ' stress="1 2 3 4 5"'), r"frame 0 \(line 1\): cannot be read .*stress"),
    "two atoms at one place": (
        _with_atom(2, ATOMS[1].replace("0.763000", "0.763400")),
        r"frame 0: atoms 1 \(H\) and 2 \(H\) are at the same place",
    ),
    "pbc without a cell": (_frame(header=HEADER + ' pbc="F F T"'), r"frame 0: periodic along c but the lattice vector c is zero"),
    "flat cell": (_frame(header=HEADER + ' Lattice="9 0 0 0 9 0 9 9 0"'), r"frame 0: the periodic lattice vectors are linearly dependent"),
    "NaN cell": (
        _frame(header=HEADER + ' Lattice="9 0 0 0 nan 0 0 0 9"'),
        r"frame 0: the cell \(Lattice\) holds a number that is not finite",
    ),
}


@pytest.mark.parametrize("text, message", BAD_FILES.values(), ids=BAD_FILES)
def test_unusable_file_names_frame_and_field(tmp_path, text, message):
    path = tmp_path / "train.xyz"
    path.write_text(text)

    with pytest.raises(InputError, match=message) as caught:
        read_configurations(path, LabelKeys())

    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_atoms_at_the_same_place_are_found_through_periodic_images(tmp_path):
    path = tmp_path / "train.xyz"
    atoms = ("H 0.0 0.0 0.0", "H 5.0 0.0 0.0005", "H 15.0 5.0 5.0")
    path.write_text("\n".join(("3", 'Lattice="10 0 0 0 10 0 0 0 10" Properties=species:S:1:pos:R:3', *atoms)) + "\n")
    assert len(read_configurations(path, LabelKeys())) == 1

    path.write_text(path.read_text().replace('"10 0 0', '"5 0 0'))
    with pytest.raises(InputError, match=r"atoms 0 \(H\) and 1 \(H\) are at the same place, as periodic images"):
        read_configurations(path, LabelKeys())


def test_missing_file_and_folder_name_the_path(tmp_path):
    with pytest.raises(InputError, match=r"none.xyz: no such file"):
        read_configurations(tmp_path / "none.xyz", LabelKeys())
    with pytest.raises(InputError, match=r"is a directory"):
        read_configurations(tmp_path, LabelKeys())


@pytest.mark.parametrize("suffix, module", [(".gz", gzip), (".xz", lzma)])
def test_truncated_compressed_file_is_an_error(tmp_path, suffix, module):
    path = tmp_path / f"train.xyz{suffix}"
    path.write_bytes(module.compress((FRAME * 50).encode())[:-20])
    with pytest.raises(InputError, match=r"train.xyz.*truncated"):
        read_configurations(path, LabelKeys())


def test_file_that_is_not_compressed_text_is_an_error(tmp_path):
    for name, content in (("train.xyz.gz", FRAME.encode()), ("train.xyz", b"\xff\xfe\x00\x01")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as text"):
            read_configurations(tmp_path / name, LabelKeys())


def test_frames_behind_a_blank_line_are_read(tmp_path):
    path = tmp_path / "train.xyz"
    path.write_text(FRAME + "\n" + FRAME + "\n\n")
    assert [frame.source for frame in read_configurations(path, LabelKeys())] == [f"{path} frame 0", f"{path} frame 1"]


def test_line_ends_of_windows_and_a_byte_order_mark_are_no_harm(tmp_path):
    path = tmp_path / "train.xyz"
    path.write_bytes(b"\xef\xbb\xbf" + FRAME.replace("\n", "\r\n").encode())
    assert read_configurations(path, LabelKeys())[0].energy == -14.25


def test_missing_last_line_end_is_accepted_with_a_warning(tmp_path, caplog):
    path = tmp_path / "train.xyz"
    path.write_text(FRAME.rstrip())

    configuration = read_configurations(path, LabelKeys())[0]

    np.testing.assert_array_equal(configuration.forces[-1], [-0.1, -0.2, -0.3])
    assert "no line end after the last number" in caplog.text


def test_plain_xyz_may_have_columns_of_its_own(tmp_path):
    path = tmp_path / "plain.xyz"
    path.write_text("2\nhydrogen at rest\nH 0 0 0 0.1\nH 0 0 0.74 -0.1\n")
    configuration = read_configurations(path, LabelKeys())[0]
    assert configuration.energy is None and configuration.forces is None and configuration.num_atoms == 2


# Followed by another frame, a cut number is a number.
SKIPPED = {name: text for name, (text, _) in BAD_FILES.items() if name not in ("empty", "blank", "last number cut")}


@pytest.mark.parametrize("text", SKIPPED.values(), ids=SKIPPED)
def test_bad_frames_are_skipped_and_listed_on_request(tmp_path, text, caplog):
    path = tmp_path / "train.xyz"
    good = _frame(header=HEADER.replace("-14.25", "-15.5"))
    path.write_text(good + text.rstrip("\n") + "\n" + good)

    read = read_configurations(path, LabelKeys(), skip_bad=True)

    assert read[0].energy == read[-1].energy == -15.5
    assert all(frame.num_atoms in (2, 3) for frame in read)
    assert f"{path}: " in caplog.text and "frames skipped" in caplog.text and "skipped: " in caplog.text
    assert [frame.source for frame in read][-1] != f"{path} frame {len(read) - 1}", "frames keep their number in the file"


def test_a_file_of_bad_frames_alone_is_an_error(tmp_path):
    path = tmp_path / "train.xyz"
    path.write_text(BAD_FILES["NaN force"][0])

    with pytest.raises(InputError, match=r"no frame can be used; the first error: .*frame 0, atom 2: forces holds nan"):
        read_configurations(path, LabelKeys(), skip_bad=True)
