"""The YAML files: every option of every group composes to a valid configuration, and so does every command in README and docs."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mace_tp.cli import benchmark, compare, convert, evaluate, export, expressivity, inspect, md
from mace_tp.cli.config_errors import check_keys
from mace_tp.cli.overrides import for_hydra
from mace_tp.cli.shipped import config_directory, shipped_data
from mace_tp.cli.train import _Options
from mace_tp.config import Config, check_config
from mace_tp.tensor_products.registry import build_tensor_products, own_product_names
from mace_tp.training.schedule import build_schedule

OPTIONS = sorted(f"{path.parent.name}={path.stem}" for path in config_directory().glob("*/*.yaml"))
OTHERS = (benchmark, compare, convert, evaluate, export, expressivity, inspect, md)
ROOT = Path(__file__).parents[2]
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))


def composed(*overrides: str) -> Config:
    OmegaConf.register_new_resolver("shipped_data", shipped_data, replace=True)
    ConfigStore.instance().store(name="schema", node=Config)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        configuration = compose("config", ["run_dir=runs/here", *overrides])
    check_keys(configuration)
    config = OmegaConf.to_object(configuration)
    check_config(config)
    return config


def commands(name: str) -> list[str]:
    """Arguments of every `mace-tp NAME` in a code block of the README and the other pages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", PAGES, flags=re.DOTALL | re.MULTILINE)
    blocks = "\n".join(text for language, text in found if language in ("", "bash", "sh", "console")).replace("\\\n", " ")
    return re.findall(rf"mace-tp {name}\b([^\n;&|]*)", blocks)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_says_something(option):
    assert composed(option) != composed() or option == "tensor_product=cg", "the default is said in config.yaml"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_says_in_its_first_comment_what_it_is(option):
    lines = (config_directory() / f"{option.replace('=', '/')}.yaml").read_text(encoding="utf-8").splitlines()

    first = next(line for line in lines if not line.startswith("# @package"))
    assert first.startswith("# ")


def test_tensor_products_and_their_configurations_are_the_same_names():
    assert {path.stem for path in (config_directory() / "tensor_product").glob("*.yaml")} == set(own_product_names())


@pytest.mark.parametrize("name", own_product_names())
def test_every_tensor_product_is_built(name):
    products = build_tensor_products(composed(f"tensor_product={name}").tensor_product)

    assert type(products.interaction).__module__ == type(products.product_basis).__module__ == f"mace_tp.tensor_products.{name}"


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_every_schedule_is_built(schedule):
    assert build_schedule(composed(f"optimizer.schedule={schedule}").optimizer)(0.5) <= 1


def test_the_data_that_ship_are_there():
    for option in ("ethanol", "cu_au"):
        shipped = composed(f"data={option}").data
        tests = [shipped.test] if isinstance(shipped.test, str) else shipped.test
        assert all(Path(path).exists() for path in (shipped.train, shipped.isolated_atoms, *tests))


def test_the_pages_train():
    assert commands("train")


@pytest.mark.parametrize("arguments", commands("train"))
def test_every_training_of_the_pages_composes(arguments):
    options = _Options.of(shlex.split(arguments, comments=True))
    overrides = OverridesParser.create().parse_overrides(for_hydra(options.overrides, is_sweep=options.is_sweep))

    composed(*(f"{o.key_or_group}={next(o.sweep_string_iterator())}" if o.is_sweep_override() else o.input_line for o in overrides))


@pytest.mark.parametrize(("module", "arguments"), [(m, line) for m in OTHERS for line in commands(m.__name__.split(".")[-1])])
def test_every_other_command_of_the_pages_parses(module, arguments):
    module._parser().parse_args(shlex.split(arguments, comments=True))


@pytest.mark.parametrize("module", OTHERS)
def test_the_pages_show_every_command(module):
    assert commands(module.__name__.split(".")[-1])
