"""`mace-tp benchmark`: a table, files and pictures; mistakes are one line."""

import json

import pytest


@pytest.mark.slow
def test_both_sites_and_the_bilinear_map(run, toys, tmp_path):
    arguments = ["--l-max", "1", "--batch", "20", "--channels", "2", "--correlation", "2", "--repeats", "2", "--graphs", "2"]
    arguments += ["--settings", "SISO", "MIMO", "interaction", "product_basis", "--derivatives", "value", "training"]
    arguments += ["--products", "cg", "gaunt", "cg/spherical_grid:rank=2", "--data", toys / "train.xyz", "--out", tmp_path / "out"]

    outcome = run("benchmark", *arguments)

    assert outcome.code == 0, outcome.err
    for said in ("jax ", "matrix product ", "interaction, L = 1, training", "cannot: gaunt couples 1x1o and 1x1o to none of", " dof"):
        assert said in outcome.out
    content = json.loads((tmp_path / "out" / "benchmark.json").read_text(encoding="utf-8"))
    assert len(content["rows"]) == 4 * 2 * 3
    assert content["environment"]["jaxlib"] and content["options"]["channels"] == 2
    for name in ("benchmark.csv", "SISO.png", "MIMO.png", "interaction.png", "product_basis.png", "roofline.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
        assert str(tmp_path / "out" / name) in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--settings", "MIXO"], "--settings MIXO: no such setting; valid: SISO, SIMO, MIMO, interaction, product_basis"),
        (["--products", "fast"], "tensor_product=fast: no such tensor product; valid: auto, cg, "),
        (["--products", "gaunt:rank"], "gaunt:rank: an option is written option=value, such as spherical_grid:rank=2"),
        (["--products", "gaunt:depth=2"], "tensor_product.depth: gaunt has no such option; valid: rank"),
        (["--l-max", "-1"], "--l-max -1: must not be negative"),
        (["--batch", "0"], "--batch 0: must be positive"),
        (["--repeats", "0"], "--repeats 0: must be positive"),
        (["--hidden-irreps", "1o"], "--hidden-irreps=1o: must begin with 0e"),
        (["--data", "nothing.xyz"], "nothing.xyz"),
        (["--out", "/proc/nothing"], "--out /proc/nothing: cannot be made"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, arguments, message):
    outcome = run("benchmark", "--out", tmp_path, *arguments)

    assert outcome.code == 2
    assert outcome.err.startswith("mace-tp benchmark: ") and message in outcome.err and outcome.err.count("\n") == 1
