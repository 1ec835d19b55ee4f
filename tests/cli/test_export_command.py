"""From the command line: an export that is checked, and what is refused."""

from test_bad_input import assert_one_line

from mace_tp import load_exported


def test_an_export_is_checked_and_never_overwritten_unasked(run, finished, tmp_path):
    out = tmp_path / "model.export"
    outcome = run("export", finished[0], out)
    assert outcome.code == 0, outcome.err
    assert "checked against the model: energies differ by" in outcome.out and "for cpu and cuda" in outcome.out
    assert load_exported(out).dtype == "float64" and list(tmp_path.iterdir()) == [out]

    assert_one_line(run("export", finished[0], out), "is there already; --force replaces it")
    assert run("export", finished[0], out, "--force", "--platforms", "cpu").code == 0
    assert load_exported(out).function.platforms == ("cpu",)


def test_a_model_that_is_not_there_is_said(run, tmp_path):
    assert_one_line(run("export", tmp_path, tmp_path / "out"), "no model here")
