"""`mace-tp train`: Hydra composes the configuration, `mace_tp.run` does the work."""

import os
import sys
from pathlib import Path

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mace_tp.cli.config_errors import one_line
from mace_tp.cli.main import command_started
from mace_tp.cli.shipped import config_directory, shipped_data
from mace_tp.config import Config
from mace_tp.errors import InputError
from mace_tp.loggers import setup_logging
from mace_tp.run import make_run_dir, train

# With one of these the user has said what to train on; otherwise it is the data that ship.
_CHOICES_OF_DATA = ("data=", "data.train=", "+experiment=", "experiment=")


def main(arguments: list[str]) -> None:
    """Compose, then train once for each job of a sweep."""
    OmegaConf.register_new_resolver("shipped_data", shipped_data, replace=True)
    ConfigStore.instance().store(name="schema", node=Config)
    is_query = any(argument.startswith(("--help", "-h", "--hydra-help", "--version")) for argument in arguments)
    if not is_query and not any(argument.startswith(_CHOICES_OF_DATA) for argument in arguments):
        arguments = [*arguments, "experiment=ethanol"]
    sys.argv = ["mace-tp train", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come to us instead of being printed by Hydra
    try:
        hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")(_job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(one_line(error)) from error


def _job(composed: DictConfig) -> None:
    if OmegaConf.is_missing(composed, "data") or composed.data.train is None:
        raise InputError("data.train: no training file; give data.train=FILE, or data=ethanol for the data that ship")
    config = OmegaConf.to_object(composed)
    run_dir = make_run_dir(HydraConfig.get().runtime.output_dir, resume=config.trainer.resume == "auto")
    setup_logging(run_dir / "train.log")
    _save_config(composed, run_dir / "config.yaml")
    results = train(config, run_dir, command_started())
    print_results(results, run_dir)


def _save_config(composed: DictConfig, path: Path) -> None:
    """Write the resolved configuration, or compare with the one that a resumed run began with.

    Raises:
        InputError: a resumed run is asked to continue with another configuration.
    """
    text = OmegaConf.to_yaml(composed, resolve=True)
    if path.exists():
        before, now = (_flat(yaml.safe_load(content)) for content in (path.read_text(encoding="utf-8"), text))
        free = ("trainer.", "logger.", "device", "run_dir")
        different = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key) and not key.startswith(free))
        if different:
            changes = ", ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in different)
            raise InputError(f"trainer.resume=auto: {path} has another configuration ({changes})")
    path.write_text(text, encoding="utf-8")


def _flat(values: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(values, dict) or not values:
        return {prefix.rstrip("."): values}
    return {key: value for name, inner in values.items() for key, value in _flat(inner, f"{prefix}{name}.").items()}


def print_results(results: dict, run_dir: Path) -> None:
    """The last lines of a training: errors per file, and where everything is."""
    from mace_tp.cli.report import error_table

    for line in error_table({"validation": results["valid"], **results["test"]}):
        print(line)
    step, total = results["step_seconds"], results["total_seconds"]
    print(f"{results['steps']} steps in {results['epochs']} epochs, {total:.0f} s in all, {1000 * (step or 0):.1f} ms a step, {results['compile_seconds']:.1f} s of compilation")
    print(f"run directory: {run_dir}")
