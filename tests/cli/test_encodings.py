"""Every command prints in every encoding; what it writes to files is UTF-8."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from unittest import mock

import pytest
from command import _exit_code, _same_logging
from toy_data import molecules, write

from mace_tp.cli.main import main

ENCODINGS = ["ascii", "latin-1", "cp1252"]


def _run(encoding: str, *arguments: str | Path) -> str:
    """Return the output of `mace-tp ARGUMENTS` as a terminal of an encoding shows it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
        mock.patch.object(sys, "argv", ["mace-tp", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _same_logging(),
    ):
        code = _exit_code(main)
    shown = out.buffer.getvalue().decode(encoding), err.buffer.getvalue().decode(encoding)
    assert code == 0, shown
    return shown[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_inspect_prints_question_marks(encoding, tmp_path):
    frames = molecules(2, seed=0)
    for frame in frames:
        frame.info["config_type"] = "Σ"
    path = write(tmp_path / "Σ.xyz", frames)
    assert f"{tmp_path}/?.xyz: 2 configurations" in _run(encoding, "inspect", path)


def test_evaluate_and_md_print_question_marks_and_write_unicode(finished, tmp_path):
    path = write(tmp_path / "Σ.xyz", molecules(2, seed=0))
    for encoding in ENCODINGS:
        shown = _run(encoding, "evaluate", finished[0], path, "--json", tmp_path / f"{encoding}.json", "--predictions", tmp_path / "Ω.xyz")
        assert "?.xyz" in shown
        assert list(json.loads((tmp_path / f"{encoding}.json").read_text(encoding="utf-8"))["files"]) == [str(path)]
        assert "?" in _run(encoding, "md", finished[0], path, "--steps", "1", "--out", tmp_path / f"{encoding} Ω")


def test_a_name_that_is_no_unicode_is_printed_and_written(finished, tmp_path):
    path = write(tmp_path / "a.xyz", molecules(2, seed=0))
    odd = os.fsdecode(bytes(tmp_path) + b"/\xff.xyz")
    path.rename(odd)
    assert "?.xyz" in _run("utf-8", "evaluate", finished[0], odd, "--json", tmp_path / "out.json")
    assert list(json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["files"]) == [odd]
