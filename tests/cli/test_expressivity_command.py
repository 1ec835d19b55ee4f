"""`mace-tp expressivity`: tables, files and a picture; mistakes are one line."""

import json

import pytest


def test_tables_files_and_a_picture(run, tmp_path):
    arguments = ["--l-max", "1", "--basis-irreps", "0e+1o", "--hidden-irreps", "0e+1o", "--correlation", "2"]

    outcome = run("expressivity", *arguments, "--products", "cg", "gaunt", "matrix:degree=0", "cg/gaunt", "--out", tmp_path / "out")

    assert outcome.code == 0, outcome.err
    assert "cg                             6 of 6     6" in outcome.out and "gaunt                          5 of 6     5" in outcome.out
    assert outcome.out.count("cannot: tensor_product: degree 0 of matrix is too small") == 2
    rows = json.loads((tmp_path / "out" / "expressivity.json").read_text(encoding="utf-8"))["rows"]
    assert [row["dof"] for row in rows if row["map"] == "bilinear" and "note" not in row] == [6, 5, 6]
    assert rows[0]["strengths"]["1o 1o 1e"] > 0 and rows[1]["strengths"]["1o 1o 1e"] == 0
    assert sum("note" in row for row in rows) == 2 and sum(row["map"] == "product_basis" for row in rows) == 4 + 4 + 1 + 4
    of_pair, of_gaunt = (
        [row["dof"] for row in rows if row["map"] == "product_basis" and row["product"] == n] for n in ("cg/gaunt", "gaunt")
    )
    assert of_pair == of_gaunt, "the second name is that of the product basis"
    for name in ("expressivity.csv", "couplings_l1.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--products", "fast"], "product=fast: no such tensor product"),
        (["--l-max", "-1"], "--l-max -1 --correlation 3: must be at least 0 and 1"),
        (["--hidden-irreps", "zero"], "--hidden-irreps zero: not irreps"),
        (["--basis-irreps", "2x0e"], "--basis-irreps 2x0e: each irrep once"),
        (["--out", "/proc/nothing"], "--out /proc/nothing: cannot be made"),
    ],
)
def test_mistakes_are_one_line(run, arguments, message):
    outcome = run("expressivity", *arguments)

    assert outcome.code == 2
    assert outcome.err.startswith("mace-tp expressivity: ") and message in outcome.err and outcome.err.count("\n") == 1
