"""Open data sets: their table, files of their formats converted, and what the network does to a download."""

import bz2
import errno
import functools
import gzip
import hashlib
import http.server
import io
import lzma
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile

import ase
import ase.io
import numpy as np
import pytest

from mace_tp.cli.data import main
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.conversion import FORMATS, convert
from mace_tp.data.downloads import download
from mace_tp.data.open_sets import open_sets
from mace_tp.data.readers import read_configurations
from mace_tp.errors import InputError

KCAL = 0.0433641042  # eV
NUMBERS, COORDS = np.array([8, 1]), np.array([[[0.0, 0, 0], [0.96, 0, 0]], [[0.0, 0, 0], [1.0, 0.1, 0]], [[0.0, 0, 0], [1.1, 0, 0.2]]])
ENERGIES, FORCES = np.array([-100.0, -101.0, -102.0]), np.arange(18.0).reshape(3, 2, 3)


def test_every_entry_of_the_table_can_be_fetched_and_says_where_it_is_from():
    assert {"3bpa", "acetylacetone", "rmd17", "spice", "mptrj"} <= open_sets().keys()
    for entry in open_sets().values():
        assert entry.format in FORMATS and entry.files and entry.licence and entry.page.startswith("https://") and entry.read
        assert all(entry.address(file).startswith("https://") for file in entry.files)
        assert "data.train=" in entry.keys and (entry.md5 is None or len(entry.files) == 1)


def test_the_list_shows_all_and_loads_neither_jax_nor_ase(capsys):
    main(["list"])
    shown = capsys.readouterr().out
    assert all(f"{name}: " in shown for name in open_sets()) and "never tried" in shown
    program = "import sys; from mace_tp.cli.data import main; main(['list']); assert not {'jax', 'ase'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, timeout=60)


def _rmd17(path, train=b"2\n0\n"):
    """An archive as on figshare, with a member that wants to lie elsewhere."""
    arrays = io.BytesIO()
    np.savez(arrays, nuclear_charges=NUMBERS, coords=COORDS, energies=ENERGIES, forces=FORCES)
    members = {
        "rmd17/npz_data/rmd17_water.npz": arrays.getvalue(),
        "rmd17/splits/index_train_01.csv": train,
        "rmd17/splits/index_test_01.csv": b"1\n",
        "../../evil.npz": b"evil",
    }
    with tarfile.open(path, "w:bz2") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_rmd17_becomes_the_published_split_in_eV(tmp_path):
    (tmp_path / "out").mkdir()
    _rmd17(tmp_path / "rmd17.tar.bz2")

    made = convert("rmd17", tmp_path / "rmd17.tar.bz2", tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["water_test_01.extxyz", "water_train_01.extxyz"]
    assert not list(tmp_path.parent.rglob("evil*"))
    train = read_configurations(made[0], LabelKeys())
    assert [frame.energy for frame in train] == pytest.approx([-102 * KCAL, -100 * KCAL], rel=1e-7)
    np.testing.assert_allclose(train[0].forces, FORCES[2] * KCAL, rtol=1e-6)
    np.testing.assert_allclose(train[1].positions, COORDS[0], atol=1e-7)


def test_an_archive_that_has_no_way_back_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    _rmd17(tmp_path / "rmd17.tar.bz2")
    backwards = []
    seek = bz2.BZ2File.seek

    def watched(file, offset, whence=io.SEEK_SET):
        if whence == io.SEEK_SET and offset < file.tell():
            backwards.append(offset)
        return seek(file, offset, whence)

    monkeypatch.setattr(bz2.BZ2File, "seek", watched)
    convert("rmd17", tmp_path / "rmd17.tar.bz2", tmp_path / "out")

    assert len([offset for offset in backwards if offset > 0]) == 0, "each one decompresses a gigabyte from its beginning"


def test_spice_becomes_eV_with_forces_against_the_gradient(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "spice.hdf5", "w") as file:
        group = file.create_group("water")
        group["atomic_numbers"], group["subset"] = NUMBERS, ["Some subset"]
        group["conformations"], group["dft_total_energy"], group["dft_total_gradient"] = COORDS[:2], [-76.0, -76.1], FORCES[:2]

    [path] = convert("spice", tmp_path / "spice.hdf5", tmp_path)

    frames = read_configurations(path, LabelKeys())
    assert frames[0].energy == pytest.approx(-76 * 27.211386245988, rel=1e-8) and frames[0].config_type == "Some_subset"
    np.testing.assert_allclose(frames[1].positions, 0.529177210903 * COORDS[1], atol=1e-7)
    np.testing.assert_allclose(frames[1].forces, -27.211386245988 / 0.529177210903 * FORCES[1], rtol=1e-6)


def test_mptrj_is_one_file_and_its_stress_no_label(tmp_path):
    (tmp_path / "out").mkdir()
    frame = 'Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 stress="1 0 0 0 1 0 0 0 1" pbc="T T T"'
    with zipfile.ZipFile(tmp_path / "mp.zip", "w") as archive:
        for name in ("mp-1.extxyz", "../mp-2.extxyz"):
            archive.writestr(name, f"1\n{frame}\nFe 0 0 0 0.1 0.2 0.3\n")

    [path] = convert("extxyz_zip", tmp_path / "mp.zip", tmp_path / "out")

    frames = read_configurations(path, LabelKeys())
    assert len(frames) == 2 and frames[0].energy == -1.5 and frames[0].stress is None
    np.testing.assert_allclose(frames[1].forces, [[0.1, 0.2, 0.3]])
    np.testing.assert_allclose(ase.io.read(path, 0).info["raw_stress"], np.eye(3).ravel())
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mptrj.extxyz"] and not (tmp_path / "mp-2.extxyz").exists()


@pytest.mark.parametrize("format", ["rmd17", "extxyz_zip"])
def test_a_damaged_file_is_one_line_and_leaves_nothing(format, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "file").write_bytes(b"\x00" * 500)
    with pytest.raises(InputError, match="damaged, or another file") as error:
        convert(format, tmp_path / "file", tmp_path / "out")
    assert "\n" not in str(error.value) and not list((tmp_path / "out").iterdir())


def _spoiled(path, module):
    """An archive whose compression is damaged far behind its beginning, which therefore is read well."""
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w") as archive:
        member = tarfile.TarInfo("rmd17_water.npz")
        member.size = 400_000
        archive.addfile(member, io.BytesIO(np.random.default_rng(0).integers(0, 16, member.size, np.uint8).tobytes()))
    content = bytearray(module.compress(text.getvalue()))
    content[100_000:150_000] = np.random.default_rng(1).bytes(50_000)
    path.write_bytes(content)


def _zip_with(path, offsets, value):
    """With another number in the headers of its member, which begin with PK: in the local one and in the one at the end."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.extxyz", "1\n\nFe 0 0 0\n")
    content = bytearray(path.read_bytes())
    for start, offset in zip((0, content.index(b"PK\x01\x02")), offsets, strict=True):
        content[start + offset] = value
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("format", "spoil"),
    [
        ("rmd17", functools.partial(_spoiled, module=gzip)),
        ("rmd17", functools.partial(_spoiled, module=lzma)),
        ("rmd17", functools.partial(_rmd17, train=b"3\n0\n")),
        ("rmd17", functools.partial(_rmd17, train=b"-1\n0\n")),
        ("extxyz_zip", functools.partial(_zip_with, offsets=(6, 8), value=1)),  # encrypted
        ("extxyz_zip", functools.partial(_zip_with, offsets=(8, 10), value=97)),  # compressed in a way of its own
    ],
    ids=["gzip", "lzma", "split", "negative split", "password", "compression"],
)
def test_damage_of_any_kind_is_one_line_and_leaves_nothing(format, spoil, tmp_path):
    (tmp_path / "out").mkdir()
    spoil(tmp_path / "file")
    with pytest.raises(
        InputError, match="file: (damaged, or another file|the split index_train_01.csv counts beyond the 3 frames)"
    ) as error:
        convert(format, tmp_path / "file", tmp_path / "out")
    assert "\n" not in str(error.value) and not list((tmp_path / "out").iterdir())


def _empty_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.extxyz", "")


def _no_finite_energy(path):
    with pytest.importorskip("h5py").File(path, "w") as file:
        group = file.create_group("water")
        group["atomic_numbers"], group["conformations"] = NUMBERS, COORDS[:1]
        group["dft_total_energy"], group["dft_total_gradient"] = [np.nan], FORCES[:1]


@pytest.mark.parametrize(
    ("format", "make"),
    [
        ("xyz", lambda path: path.touch()),
        ("xyz", lambda path: path.write_text("<html>404</html>")),
        ("extxyz_zip", _empty_zip),
        ("spice", _no_finite_energy),
    ],
    ids=["nothing", "a page", "nothing in the archive", "nothing finite"],
)
def test_nothing_is_no_success(format, make, tmp_path):
    (tmp_path / "out").mkdir()
    make(tmp_path / "file")
    with pytest.raises(InputError, match="file: holds nothing of what it should"):
        convert(format, tmp_path / "file", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_is_not_called_a_damaged_file(tmp_path, monkeypatch):
    def full(source, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(FORMATS, "xyz", full)
    with pytest.raises(InputError, match=r"cannot be converted into .* \(No space left on device\)"):
        convert("xyz", tmp_path / "a.xyz", tmp_path)


@pytest.mark.parametrize("error", [ssl.SSLError(1, "record layer failure"), OSError(errno.EHOSTUNREACH, "No route to host")])
def test_a_connection_that_breaks_is_not_called_a_full_disk(error, server, tmp_path, monkeypatch):
    def breaks(answer, size):
        raise error

    monkeypatch.setattr("http.client.HTTPResponse.read", breaks)
    with pytest.raises(InputError, match="/good: cannot be fetched .*--from PATH"):
        download(f"{server}/good", tmp_path / "file")
    assert not list(tmp_path.iterdir())


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/none":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "10" if self.path == "/cut" else "5")
        self.end_headers()
        self.wfile.write(b"12345")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_download_is_complete_and_the_published_file_or_absent(server, tmp_path):
    get = functools.partial(download, path=tmp_path / "file")
    md5 = hashlib.md5(b"12345").hexdigest()
    for address, checksum, message in (
        (f"{server}/none", None, "404 Not Found.*--from PATH"),
        (f"{server}/cut", None, "after 5 of 10 bytes|cannot be fetched"),
        (f"{server}/good", "0" * 32, f"its MD5 is {md5}, the published one 0000"),
        ("http://127.0.0.1:9/file", None, "cannot be fetched .*refused.*; with a copy of your own: --from PATH"),
        ("http://no.such.host.invalid/file", None, "cannot be fetched"),
    ):
        with pytest.raises(InputError, match=message) as error:
            get(address, md5=checksum)
        assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
    get(f"{server}/good", md5=md5)
    assert (tmp_path / "file").read_bytes() == b"12345"
