"""`mace-tp convert` as far as it needs no mace-torch: what is wrong is said before anything is read."""

import pytest
from command import assert_one_line


@pytest.mark.parametrize("out", ["file", "file/folder"])
def test_a_place_where_no_folder_can_be_made_is_said_first(run, tmp_path, out):
    (tmp_path / "file").write_text("")
    outcome = run("convert", "mace-torch", tmp_path / "not_there.model", tmp_path / out, "--trust", "--force")
    assert_one_line(outcome, f"OUT {tmp_path}/{out}: cannot be made, because {tmp_path}/file is a file")
