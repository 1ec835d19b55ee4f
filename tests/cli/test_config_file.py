"""`mace-tp train --config FILE`: any keys of the configuration, under the overrides of the command line."""

import re

import pytest
import yaml
from command import assert_one_line

import mace_tp.cli.train as train_module
from mace_tp.cli.shipped import config_directory, shipped_data
from mace_tp.config import Config, check_config


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes `my (own).yaml` into the working directory; gives its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "my (own).yaml").write_text(text, encoding="utf-8")
        return "my (own).yaml"

    return write


MINE = """
data:
  train: [a.xyz, "b (1).xyz"]
  atomic_energies: {H: -13.6, 8: -432.1}
model.num_channels: 8
model:
  cutoff: 6
trainer: {max_epochs: 7, max_minutes: 12}
optimizer:
  learning_rate: 1e-3
run_dir: runs/seed_${seed}
"""


def test_a_file_has_any_keys_and_the_command_line_goes_over_it(file, run, composed):
    config = composed("--config", file(MINE), "trainer.max_epochs=9", "seed=4")

    assert config.data.train == ["a.xyz", "b (1).xyz"] and config.data.test is None
    assert config.data.atomic_energies == {"H": -13.6, 8: -432.1}
    assert (config.model.num_channels, config.model.cutoff, config.model.l_max) == (8, 6.0, Config().model.l_max)
    assert (config.trainer.max_epochs, config.trainer.max_minutes, config.optimizer.learning_rate) == (9, 12.0, 1e-3)
    shown = run("train", f"--config={file(MINE)}", "--cfg", "job", "--resolve", "seed=4")
    assert shown.code == 0 and "run_dir: runs/seed_4\n" in shown.out, shown.err


def test_the_file_of_the_readme(file, composed):
    readme = (config_directory().parent / "README.md").read_text(encoding="utf-8")
    [text] = re.findall(r"^```yaml\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)

    config = composed("--config", file(text), "trainer.max_epochs=50")

    assert (config.data.train, config.model.num_channels, config.trainer.max_epochs) == ("train.extxyz", 64, 50)
    assert config.tensor_product.product_basis == {"name": "gaunt"}


def test_groups_of_the_command_line_go_over_the_file_too(file, composed):
    text = "data: {train: a.xyz}\nmodel: {num_channels: 8, cutoff: 6}\ntensor_product: {product_basis: {name: gaunt, rank: 2}}\n"

    config = composed("--config", file(text))
    assert config.tensor_product.interaction == {"name": "cg"} or config.tensor_product.interaction == "cg"
    assert config.tensor_product.product_basis == {"name": "gaunt", "rank": 2}

    config = composed("--config", file(text), "model=large", "tensor_product=spherical_grid", "optimizer=acesuit")
    assert (config.model.num_channels, config.model.cutoff, config.optimizer.schedule) == (128, 6.0, "plateau")
    assert config.tensor_product.product_basis == config.tensor_product.interaction == {"name": "spherical_grid"}

    config = composed("--config", file(text), "tensor_product.product_basis.rank=3")
    assert config.tensor_product.product_basis == {"name": "gaunt", "rank": 3}


def test_a_file_chooses_options_of_groups(file, composed):
    text = "data: cu_au\nmodel: large\ntensor_product: cg/gaunt:rank=2\nexperiment: small_budget\ndebug:\n"

    config = composed("--config", file(text), "model=medium")

    assert config.data.train == shipped_data("cu_au/train.xyz.xz") and config.trainer.max_minutes == 7
    assert config.model.num_channels == 64
    assert (config.tensor_product.interaction, config.tensor_product.product_basis) == ({"name": "cg"}, {"name": "gaunt", "rank": 2})


def test_keys_of_a_file_go_over_the_groups_that_it_names(file, composed):
    config = composed("--config", file("experiment: ethanol\ntrainer: {max_minutes: 60}\nmodel: large\nmodel.cutoff: 4\n"))
    assert (config.trainer.max_minutes, config.model.num_channels, config.model.cutoff) == (60, 128, 4)
    assert config.data.train == shipped_data("ethanol/train_300K.xyz.xz")

    text = "experiment: ethanol\ndebug: tiny\ntrainer: {max_epochs: 4}\nmodel: {l_max: 3, num_channels: 8}\nloss:\ntrainer.patience: 5\n"
    config = composed("--config", file(text), "data=cu_au", "model=medium")
    assert (config.trainer.max_epochs, config.trainer.max_minutes, config.trainer.patience) == (4, 10, 5)
    assert (config.model.l_max, config.model.num_channels) == (3, 64), "the line goes over the file"
    assert (config.data.train, config.data.theory) == (shipped_data("cu_au/train.xyz.xz"), "EMT of ASE")


def test_a_section_without_keys_says_nothing(file, composed):
    assert composed("--config", file("trainer:\noptimizer: ~\ndata: {train: a.xyz}")).trainer == Config().trainer


def test_a_file_without_data_trains_on_those_that_ship_for_as_long_as_it_says(file, composed):
    config = composed("--config", file("trainer: {max_minutes: 9}\nmodel: {l_max: 2}\n"))

    assert config.data.train == shipped_data("ethanol/train_300K.xyz.xz")
    assert (config.trainer.max_minutes, config.model.l_max) == (9.0, 2)
    assert composed("--config", file("")).data.train == config.data.train


def test_a_sweep_over_a_file(file, run, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(train_module, "train", lambda config, *_: seen.append((config.seed, config.model.cutoff)))
    monkeypatch.setattr(train_module, "_report", lambda *_: None)

    outcome = run("train", "-m", "--config", file(MINE), "seed=0,1", f"run_dir={tmp_path}/sweep")

    assert outcome.code == 0, outcome.err
    assert seen == [(0, 6.0), (1, 6.0)]


def test_the_configuration_of_a_run_repeats_it(finished, run, tmp_path):
    done, again = finished[0], tmp_path / "again"

    outcome = run("train", "--config", done / "config.yaml", f"run_dir={again}", "trainer.max_epochs=1")

    assert outcome.code == 0, outcome.err
    first, second = (yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")) for path in (done, again))
    assert second == first | {"run_dir": str(again), "trainer": first["trainer"] | {"max_epochs": 1}}
    assert_one_line(run("train", "--config", done / "config.yaml"), f"run_dir={done}: already holds a run; continue it with trainer.resume")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {ctoff: 6}", ["my (own).yaml: model.ctoff: no such configuration key; did you mean model.cutoff?"]),
        ("modle: {cutoff: 6}", ["my (own).yaml: modle.cutoff: no such configuration key; did you mean model.cutoff?"]),
        ("defaults: [model]", ["my (own).yaml: defaults: no such configuration key"]),
        ("model: {cutoff: far}", ["my (own).yaml: model.cutoff: Value 'far'"]),
        ("model: {cutoff: 0}", ["model.cutoff=0.0: must be positive"]),
        ("model: huge", ["model=huge: no such configuration; valid: large, medium"]),
        ("model: [large]", ["my (own).yaml: model: must be keys with their values, or the name of an option"]),
        ("tensor_product: cg/gautn", ["tensor_product=gautn: no such tensor product; did you mean gaunt?"]),
        ("tensor_product: {interaction: 'gaunt:rnk=2'}", ["tensor_product.interaction.rnk: gaunt has no such option; did you mean rank?"]),
        ("tensor_product: {name: gaunt}", ["my (own).yaml: tensor_product.name: no such configuration key"]),
        ("seed: 1\nseed: 2", ["my (own).yaml, line 2: not YAML (found duplicate key seed)"]),
        ("model: {cutoff: 6}\nmodel.cutoff: 5", ["my (own).yaml: model.cutoff: is there twice"]),
        ("a: [1", ["my (own).yaml, line 1: not YAML"]),
        ("just words", ["my (own).yaml: just words: no such configuration key"]),
        ("17", ["--config my (own).yaml: must hold keys with their values"]),
        ("- a\n- b", ["--config my (own).yaml: must hold keys with their values"]),
        ("data: {train: '${nowhere}'}", ["data.train", "'nowhere' not found"]),
    ],
)
def test_a_mistake_in_a_file_is_one_line(text, said, file, run):
    assert_one_line(run("train", "--config", file(text)), *said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "nothere.yaml"], ["--config nothere.yaml: No such file"]),
        (["--config", "."], ["--config .: is a folder; give a YAML file"]),
        (["seed=1", "--config"], ["--config: no file; mace-tp train --config FILE KEY=VALUE"]),
        (["--config", "a.yaml", "--config=b.yaml"], ["--config b.yaml: there is --config a.yaml already; give one file"]),
        (["-cp", "/tmp", "-cn", "my"], ["-cp: --config FILE takes a YAML file of your own"]),
        (["--config-name=my"], ["--config-name: --config FILE takes"]),
    ],
)
def test_a_file_that_is_not_there(arguments, said, run):
    assert_one_line(run("train", *arguments), *said)


def test_a_file_that_is_no_text(file, run, tmp_path):
    file("")
    (tmp_path / "my (own).yaml").write_bytes(b"\xff\xfe\x00a: 1")

    assert_one_line(run("train", "--config", "my (own).yaml"), "my (own).yaml: not YAML")


def test_the_defaults_are_not_changed_by_an_earlier_file(file, composed):
    composed("--config", file("data: {train: a.xyz}\nseed: 7\n"))

    assert composed("data.train=a.xyz").seed == 0
    check_config(composed("data.train=a.xyz"))
