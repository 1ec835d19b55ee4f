"""The configuration gets exactly the value that a user types: paths of any name, texts, tensor products in their notation."""

import dataclasses
import random
import shlex

import pytest
from command import assert_one_line
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from toy_data import molecules, write

from mace_tp.cli.overrides import for_hydra
from mace_tp.config import check_config
from mace_tp.errors import InputError

# Every mark that Hydra's grammar, OmegaConf or YAML has a use for.
NAMES = [
    "a (1).xyz", "a, b.xyz", "[a].xyz", "[a]", "{a}", "a 'quoted' \"b\".xyz", "a=b.xyz", "$x ${seed}.xyz", "~a.xyz", "back\\slash.xyz",
    "end\\", "'a'", "ü#!&;|<>*?.xyz", "choice(a,b)", "null,", "1e5", "a: b", "@a%b^c`d", "[1, 2],[3]", "\\${seed}", "a\tb",
]  # fmt: skip


def values(override: str, *, is_sweep: bool = False) -> list:
    """Return the value that Hydra and OmegaConf read from an override, for every job of a sweep."""
    [text] = for_hydra([override], is_sweep=is_sweep)
    parsed = OverridesParser.create().parse_override(text)
    if parsed.is_sweep_override():
        parsed = [OverridesParser.create().parse_override(f"key={value}") for value in parsed.sweep_string_iterator()]
    composed = OmegaConf.create({"seed": 3, "values": [each.value() for each in (parsed if isinstance(parsed, list) else [parsed])]})
    return OmegaConf.to_container(composed, resolve=True)["values"]


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A working directory with files of these names."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_path_that_exists_is_taken_as_it_is(name, here):
    for key in ("data.train", "data.isolated_atoms", "model.init_from", "run_dir", "++data.valid"):
        assert values(f"{key}={name}") == [name]
        assert values(f"{key}={here}/{name}") == [f"{here}/{name}"]
    assert values(f"data.train=[{name}]") == [[name]]
    assert values(f"data.test=[nothere.xyz, {name},{here}/{name}]") == [["nothere.xyz", name, f"{here}/{name}"]]
    assert values(f"data.train={name},a (1).xyz", is_sweep=True) == [name, "a (1).xyz"]
    assert values(f"data.train=[{name},a (1).xyz],[a, b.xyz]", is_sweep=True) == [[name, "a (1).xyz"], ["a, b.xyz"]]


def test_paths_of_random_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    chance = random.Random(0)
    for _ in range(300):
        name = "".join(chance.choices("ab ()[]{},'\"\\$=:~${", k=chance.randint(1, 7))).strip() or "a"
        (tmp_path / name).touch()
        assert values(f"data.train={name}") == [name]
        assert values(f"data.train=[{name},b]") == [[name, "b"]], name


@pytest.mark.parametrize("name", [name for name in NAMES if "${" not in name and name != "'a'"])
def test_a_new_run_directory_may_have_any_name(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert values(f"run_dir=runs {name}/new") == [f"runs {name}/new"]


def test_a_path_may_refer_to_other_keys_and_be_in_quotes():
    assert values("run_dir=runs (a)/${seed}") == ["runs (a)/3"]
    assert values("data.train='not (there).xyz'") == ["not (there).xyz"]
    assert values('data.train=["a, b",c]') == [["a, b", "c"]]
    assert values("data.valid=null") == [None]


@pytest.mark.parametrize("name", ["not (there), ['].xyz", "~nobody.xyz"])
def test_a_path_that_is_not_there_is_told_by_its_name(name, run, on_molecules, tmp_path):
    for key in ("data.valid", "data.isolated_atoms"):
        assert_one_line(run(*on_molecules, f"run_dir={tmp_path}/run", f"{key}={name}"), f"{name}: no such file")
    assert_one_line(run(*on_molecules, f"run_dir={tmp_path}/run", f"model.init_from={name}"), f"{name}: no model here")


def test_several_files_are_a_list(here):
    with pytest.raises(InputError, match=r"data.train=end\\,\{a\}: write several files as 'data.train=\[end\\,\{a\}\]'; a sweep"):
        for_hydra(["data.train=end\\,{a}"], is_sweep=False)


@pytest.mark.slow
def test_a_training_with_such_paths_everywhere(run, on_molecules, tmp_path):
    """To the end: plots, results and the configuration, from which it is trained once more."""
    folder = tmp_path / "it's [a] (run), $x$_{y} {1}=2"
    folder.mkdir()
    train, iso = write(folder / "t.xyz", molecules(6, seed=0)), on_molecules[4]
    tests = [write(folder / name, molecules(2, seed=i)) for i, name in enumerate(("a, b (1).xyz", "$\\frac$.xyz", "[red]c[bold].xyz"))]

    outcome = run(
        *on_molecules, f"data.train={train}", "data.valid=null", f"data.test=[{','.join(map(str, tests))}]", iso,
        f"run_dir={folder}/new (run)", "trainer.max_epochs=1",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    assert all(name in outcome.out for name in ("a, b (1)", "$\\frac$", "[red]c[bold]"))
    run_dir = folder / "new (run)"
    assert (run_dir / "results.json").exists() and len(list((run_dir / "plots").iterdir())) >= 5
    places = ["--predictions", folder / "p (1).xyz", "--json", folder / "e [1].json", "--plots", folder / "p 'l'"]
    evaluated = run("evaluate", run_dir, *tests, *places)
    assert evaluated.code == 0, evaluated.err
    assert run("inspect", *tests).code == 0


# Texts


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.theory=PBE, 500 eV", "PBE, 500 eV"),
        ("data.theory=wB97X/6-31G(d)", "wB97X/6-31G(d)"),
        ("data.theory=[PBE]", "[PBE]"),
        ("data.theory=it's", "it's"),
        ('data.theory="PBE, 500 eV"', "PBE, 500 eV"),
        ("data.theory=null", None),
        ("data.energy_key=energy(sigma->0)", "energy(sigma->0)"),
    ],
)
def test_a_text_needs_no_quotes_of_hydras(override, value):
    assert values(override) == [value]


@pytest.mark.parametrize("override", ["model=null", "+debug=1"])
def test_an_option_of_a_group_is_a_name(override, run):
    assert_one_line(run("train", override, "--cfg", "job"), f"{override.lstrip('+')}: must be the name of an option; valid: ")


def test_a_value_that_hydra_cannot_read_is_told_with_the_key_and_the_way_to_write_it(run):
    outcome = run("train", "data.atomic_energies=isolated (atoms", "--cfg", "job")

    assert_one_line(outcome, "data.atomic_energies=isolated (atoms: ", shlex.quote('data.atomic_energies="isolated (atoms"'))


# Tensor products


@pytest.mark.parametrize(
    ("overrides", "interaction", "product_basis"),
    [
        (["tensor_product=cg/gaunt"], {"name": "cg"}, {"name": "gaunt"}),
        (["tensor_product=spherical_grid:rank=2"], {"name": "spherical_grid", "rank": 2}, {"name": "spherical_grid", "rank": 2}),
        (["tensor_product=cg/spherical_grid:rank=2"], {"name": "cg"}, {"name": "spherical_grid", "rank": 2}),
        (["tensor_product='matrix:degree=2/cg'"], {"name": "matrix", "degree": 2}, {"name": "cg"}),
        (["tensor_product=cg/gaunt", "tensor_product.product_basis.rank=2"], {"name": "cg"}, {"name": "gaunt", "rank": 2}),
        (["tensor_product=gaunt:rank=2", "tensor_product.interaction=cg"], "cg", {"name": "gaunt", "rank": 2}),
        (["tensor_product.product_basis=gaunt:rank=2"], {"name": "cg"}, "gaunt:rank=2"),
        (["tensor_product.product_basis=gaunt", "tensor_product.product_basis.rank=2"], {"name": "cg"}, {"name": "gaunt", "rank": 2}),
        (["tensor_product.product_basis.rank=2", "tensor_product.product_basis=gaunt"], {"name": "cg"}, {"name": "gaunt", "rank": 2}),
    ],
    ids=lambda overrides: " ".join(overrides) if isinstance(overrides, list) else "",
)
def test_tensor_products_have_one_notation(overrides, interaction, product_basis, composed):
    config = composed(*overrides)

    assert (config.tensor_product.interaction, config.tensor_product.product_basis) == (interaction, product_basis)
    check_config(config)


def test_a_sweep_over_tensor_products(run, monkeypatch, tmp_path):
    products = []
    monkeypatch.setattr("mace_tp.cli.train.train", lambda config, *_: products.append(dataclasses.asdict(config.tensor_product)))
    monkeypatch.setattr("mace_tp.cli.train._report", lambda *_: None)

    for override in ("tensor_product=cg,cg/gaunt,gaunt:rank=2", "tensor_product.product_basis=cg,gaunt:rank=2"):
        assert run("train", "-m", override, f"run_dir={tmp_path}").err == ""

    cg, gaunt, rank_2 = {"name": "cg"}, {"name": "gaunt"}, {"name": "gaunt", "rank": 2}
    assert [(p["interaction"], p["product_basis"]) for p in products] == [
        (cg, cg), (cg, gaunt), (rank_2, rank_2), (cg, "cg"), (cg, "gaunt:rank=2"),
    ]  # fmt: skip
