"""Files are complete or absent, and nested configurations have one flat form."""

import pytest

from mace_tp.run_directory import flatten, read_results, write_atomically, write_results, written_atomically


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old ü")
    with written_atomically(path) as beside:
        beside.write_text("new")
        assert path.read_text(encoding="utf-8") == "old ü"

    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_could_not_be_written_leaves_the_old_one_and_no_part(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(RuntimeError), written_atomically(path) as beside:
        beside.write_text("half")
        raise RuntimeError

    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_several_writers_of_one_file_do_not_meet(tmp_path):
    with written_atomically(tmp_path / "file") as first, written_atomically(tmp_path / "file") as second:
        assert first != second


def test_an_empty_mapping_is_a_value():
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": {}}) == {"a.b": 1, "a.c.d": None, "e": {}}


def test_results_are_read_as_they_were_written(tmp_path):
    results = {"valid": {"force_rmse": 1.5}, "num_parameters": 3, "environment": {"device": "cpu"}, "test": {"ü.xyz": {}}}
    write_results(tmp_path / "results.json", results)

    assert read_results(tmp_path / "results.json") == results
    assert read_results(tmp_path / "none.json") is None
