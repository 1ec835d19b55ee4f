"""How arguments become a configuration: what is trained on, the keys that people type, groups, tensor products, queries."""

import dataclasses
import re
from pathlib import Path

import pytest

import mace_tp.cli.train as train_module
from mace_tp.cli.report import error_table
from mace_tp.cli.shipped import config_directory, shipped_data
from mace_tp.config import Config
from mace_tp.evaluation.metrics import UNITS
from mace_tp.run_directory import read_config, write_config

PRODUCTS = sorted(path.stem for path in (config_directory() / "tensor_product").glob("*.yaml"))


def test_without_arguments_it_trains_on_the_data_that_ship(composed):
    config = composed()

    assert config.data.train == shipped_data("ethanol/train_300K.xyz.xz")
    assert len(config.data.test) == 2 and config.data.isolated_atoms is not None
    assert all(Path(path).exists() for path in (config.data.train, *config.data.test, config.data.isolated_atoms))
    assert 0 < config.trainer.max_minutes < 15


def test_the_command_without_arguments_gets_to_its_end_on_a_machine_of_half_the_speed(composed):
    """README.md says how long the training for the promised errors takes, including compilation."""
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    [seconds, epochs] = re.findall(r"^\| ethanol \(ships\).*? \| 0 \| (\d+) s \| (\d+) \|", readme, re.MULTILINE)[0]
    trainer = composed().trainer

    assert trainer.max_epochs == int(epochs)
    assert 60 * trainer.max_minutes > 2 * int(seconds)


def test_the_configuration_is_kept_with_every_value_in_place(composed, tmp_path):
    write_config(tmp_path / "config.yaml", dataclasses.asdict(composed()))

    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert "${" not in text and shipped_data("ethanol/train_300K.xyz.xz") in text and "plateau_patience: 50" in text


def test_a_path_that_reads_like_a_reference_is_kept_as_it_is(composed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["${now}.xyz", r"a\${seed}.xyz", r"b\\${oc.env:HOME}\$.xyz", "${"]
    for name in names:
        Path(name).write_text("")
    config = composed("data.train=${now}.xyz", f"data.test=[{','.join(names[1:])}]")
    assert (config.data.train, config.data.test) == (names[0], names[1:])

    write_config(tmp_path / "config.yaml", dataclasses.asdict(config))

    assert composed("--config", "config.yaml").data == config.data
    assert read_config(tmp_path / "config.yaml") == dataclasses.asdict(config)


def test_a_file_of_the_users_takes_the_place_of_the_data_that_ship(composed):
    config = composed("data.train=mine.xyz")

    assert (config.data.train, config.data.test, config.data.isolated_atoms) == ("mine.xyz", None, None)
    assert config.trainer.max_minutes == Config().trainer.max_minutes


def test_a_shipped_set_is_chosen_by_name(composed):
    config = composed("data=cu_au")

    assert config.data.train == shipped_data("cu_au/train.xyz.xz")
    assert config.trainer.max_minutes == Config().trainer.max_minutes, "no experiment that nobody asked for"


def test_what_is_not_said_is_the_dataclasses_default(composed):
    config = composed("data.train=mine.xyz")

    for group in ("model", "loss", "optimizer", "trainer", "logger", "seed", "dtype", "device"):
        assert getattr(config, group) == getattr(Config(), group), group


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.train=[a.xyz, b.xyz]", ["a.xyz", "b.xyz"]),
        ("data.train=300 K = 26 meV/~a.xyz", "300 K = 26 meV/~a.xyz"),
        ("data.valid=v.xyz", "v.xyz"),
        ("data.valid=null", None),
        ("data.valid_fraction=0.2", 0.2),
        ("data.test=[a.xyz]", ["a.xyz"]),
        ("data.batch_size=8", 8),
        ("data.energy_key=REF_energy", "REF_energy"),
        ("data.forces_key=REF_forces", "REF_forces"),
        ("data.stress_key=REF_stress", "REF_stress"),
        ("data.atomic_energies=least_squares", "least_squares"),
        ("data.atomic_energies={H: -13.6, C: -1029}", {"H": -13.6, "C": -1029}),
        ("data.isolated_atoms=e0.xyz", "e0.xyz"),
        ("model.cutoff=6", 6.0),
        ("model.l_max=2", 2),
        ("model.hidden_irreps=0e+1o+2e", "0e+1o+2e"),
        ("model.correlation=2", 2),
        ("model.num_channels=64", 64),
        ("model.num_interactions=3", 3),
        ("model.radial_mlp=[32, 32]", [32, 32]),
        ("trainer.max_epochs=7", 7),
        ("trainer.max_minutes=8", 8.0),
        ("trainer.resume=auto", "auto"),
        ("optimizer.learning_rate=1e-3", 1e-3),
        ("loss.energy_weight=2", 2.0),
        ("loss.forces_weight=2", 2.0),
        ("loss.stress_weight=2", 2.0),
        ("seed=3", 3),
        ("dtype=float64", "float64"),
        ("device=cpu", "cpu"),
    ],
)
def test_the_keys_that_people_type(override, value, composed):
    config = composed("data.train=mine.xyz", override)

    for name in override.partition("=")[0].split("."):
        config = getattr(config, name)
    assert config == value


def test_an_override_wins_over_groups(composed):
    config = composed("debug=tiny", "experiment=ethanol", "model=large", "trainer.max_epochs=9")

    assert config.trainer.max_epochs == 9
    assert (config.model.num_channels, config.model.hidden_irreps) == (4, "0e+1o+2e"), "debug goes over the groups before it"


# Tensor products


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_tensor_product_sets_both_sites(name, composed):
    product = composed(f"tensor_product={name}").tensor_product

    assert product.interaction["name"] == product.product_basis["name"] == name


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_site_is_set_alone(name, composed):
    assert composed(f"tensor_product.interaction={name}").tensor_product.interaction == name
    assert composed(f"tensor_product.product_basis={name}").tensor_product.product_basis == name


def test_options_of_a_site_need_no_plus(composed):
    assert composed("tensor_product.interaction={name: cg, grid: 3}").tensor_product.interaction == {"name": "cg", "grid": 3}
    assert composed("tensor_product.product_basis.grid=3").tensor_product.product_basis == {"name": "cg", "grid": 3}


# Answers of Hydra itself


def test_the_configuration_can_be_shown(run):
    outcome = run("train", "model.l_max=2", "--cfg", "job", "data.batch_size=7")

    assert outcome.code == 0 and outcome.err == ""
    assert "l_max: 2" in outcome.out and "batch_size: 7" in outcome.out


@pytest.mark.parametrize("arguments", [("seed=0,1", "-m"), ("-m", "seed=0,1"), ("model.l_max=1", "--multirun", "seed=0,1")])
def test_a_sweep_is_asked_for_anywhere(arguments, run, monkeypatch, tmp_path):
    seeds: list[int] = []
    monkeypatch.setattr(train_module, "train", lambda config, *_: seeds.append(config.seed))
    monkeypatch.setattr(train_module, "_report", lambda *_: None)

    outcome = run("train", *arguments, f"run_dir={tmp_path}")

    assert outcome.code == 0, outcome.err
    assert seeds == [0, 1]


@pytest.mark.parametrize("sweep", [(), ("-m",)])
def test_a_tilde_in_the_run_directory_is_the_home_directory(sweep, run, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_module, "train", lambda *_: None)
    monkeypatch.setattr(train_module, "_report", lambda *_: None)

    outcome = run("train", *sweep, "run_dir=~/runs/first")

    assert outcome.code == 0, outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_help_names_the_commands_and_the_groups(run):
    assert all(command in run("--help").out for command in ("train", "evaluate"))
    assert all(group in run("train", "--help").out for group in ("tensor_product: auto, cg", "model: large, medium", "experiment"))


# Tables


def test_a_table_leaves_room_for_labels_that_are_missing():
    heading, units, first, second = error_table(
        {
            "a": {"num_configs": 3, "energy_mae": 1.0, "energy_rmse": 2.0, "force_rmse": 3.0},
            "longer name": {"num_configs": 20, "force_rmse": 4.0},
        }
    )

    assert len(heading) == len(units) == len(first) == len(second)
    assert first.split() == ["a", "3", "1.00", "2.00", "3.00"]
    assert second.split() == ["longer", "name", "20", "-", "-", "4.00"]


def test_no_two_columns_of_the_error_table_have_one_heading():
    errors = {name: 1.0 for name in UNITS} | {"num_configs": 3}

    heading, units, line = error_table({"valid": errors})

    titles = re.split(r"  +", heading.strip())
    assert len(titles) == len(set(titles)) == len(UNITS) + 2 and "total E RMSE" in titles
    assert len(heading) == len(units) == len(line)
