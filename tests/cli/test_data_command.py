"""`mace-tp data get`: all files or nothing, and a line to train that can be pasted."""

import dataclasses
import subprocess

import ase
import ase.io
import pytest

from mace_tp.cli.data import main
from mace_tp.data.open_sets import open_sets
from mace_tp.errors import InputError


def test_copies_of_ones_own_are_converted_and_the_line_to_train_is_said(tmp_path, capsys):
    water = ase.Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0]])
    for file in open_sets()["3bpa"].files:
        ase.io.write(tmp_path / file, water, format="extxyz")
    main(["get", "3bpa", "--from", str(tmp_path), "--out", str(tmp_path / "sets")])
    out = capsys.readouterr().out
    assert (tmp_path / "sets" / "3bpa" / "train_300K.xyz").exists() and "licence: MIT" in out
    assert f"data.train={tmp_path}/sets/3bpa/train_300K.xyz" in out and f"data.isolated_atoms={tmp_path}/sets/3bpa/iso_atoms.xyz" in out
    with pytest.raises(InputError, match="must be a folder with train_300K.xyz, train_mixedT.xyz, "):
        main(["get", "3bpa", "--from", str(tmp_path / "train_300K.xyz"), "--out", str(tmp_path / "other")])
    with pytest.raises(InputError, match="no such data set; there are 3bpa, "):
        main(["get", "qm9"])


def test_half_of_the_files_is_nothing_and_all_that_lack_are_listed(tmp_path):
    (tmp_path / "copies").mkdir()
    ase.io.write(tmp_path / "copies" / "train_300K.xyz", ase.Atoms("H"), format="extxyz")
    with pytest.raises(InputError, match="lacks train_mixedT.xyz, test_300K.xyz, test_600K.xyz, test_1200K.xyz, iso_atoms.xyz"):
        main(["get", "3bpa", "--from", str(tmp_path / "copies"), "--out", str(tmp_path / "sets")])
    assert not (tmp_path / "sets").exists()


def test_a_download_that_fails_leaves_no_folders(tmp_path, monkeypatch):
    entry = dataclasses.replace(open_sets()["3bpa"], base="http://127.0.0.1:9/")
    monkeypatch.setattr("mace_tp.cli.data.find_open_set", lambda name: entry)
    with pytest.raises(InputError, match="cannot be fetched"):
        main(["get", "3bpa", "--out", str(tmp_path / "sets")])
    assert not list((tmp_path / "sets").iterdir())


@pytest.mark.parametrize("folder", ["plain", "my sets, (new)"])
def test_the_line_to_train_passes_a_shell_and_hydra(folder, tmp_path, capsys, composed):
    """Read as a shell does, and by the command."""
    for file in open_sets()["3bpa"].files:
        ase.io.write(tmp_path / file, ase.Atoms("H"), format="extxyz")
    main(["get", "3bpa", "--from", str(tmp_path), "--out", str(tmp_path / folder)])
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("to train: ")]
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {line.removeprefix('to train: ')}"], capture_output=True, text=True, check=True)
    program, command, *overrides = words.stdout.splitlines()
    data = composed(*overrides).data
    assert (program, command, data.theory) == ("mace-tp", "train", "ωB97X/6-31G(d)")
    assert data.train == f"{tmp_path}/{folder}/3bpa/train_300K.xyz" and data.isolated_atoms == f"{tmp_path}/{folder}/3bpa/iso_atoms.xyz"
    assert data.test == [f"{tmp_path}/{folder}/3bpa/test_{kelvin}K.xyz" for kelvin in (300, 600, 1200)]
