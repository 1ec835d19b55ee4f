"""`mace-tp train`: Hydra composes the configuration, `mace_tp.run` does the work."""

import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mace_tp.cli.config_errors import check_keys, one_line
from mace_tp.cli.main import command_started
from mace_tp.cli.report import error_table
from mace_tp.cli.shipped import config_directory, shipped_data
from mace_tp.cli.signals import last_words
from mace_tp.config import Config
from mace_tp.errors import InputError, TrainingError
from mace_tp.loggers import setup_logging
from mace_tp.run import train

_LOG = logging.getLogger("mace_tp")
# With one of these the user has said what to train on; otherwise it is the data that ship.
_CHOICES_OF_DATA = ("data=", "data.train=", "experiment=")
# Keys whose values are paths.
_PATHS = ("data.train", "data.valid", "data.test", "data.isolated_atoms", "model.init_from", "run_dir")
# Below these any key may come: the options of a tensor product. `++` tells Hydra not to look for it in the schema.
_OPEN_KEYS = ("tensor_product.interaction", "tensor_product.product_basis")


def main(arguments: list[str]) -> None:
    """Compose, then train once for each job of a sweep."""
    OmegaConf.register_new_resolver("shipped_data", shipped_data, replace=True)
    OmegaConf.register_new_resolver("expand_user", os.path.expanduser, replace=True)
    ConfigStore.instance().store(name="schema", node=Config)
    sys.argv = ["mace-tp train", *_completed(arguments)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come to us instead of being printed by Hydra
    jobs = _Jobs()
    try:
        hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")(jobs.run)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(one_line(error)) from error
    except OSError as error:
        if jobs.num_begun:
            raise
        raise InputError(f"run_dir: {error.filename} cannot be made or written ({error.strerror})") from error
    if jobs.errors:
        raise type(jobs.errors[0])("; ".join(map(str, jobs.errors)))


def _completed(arguments: list[str]) -> list[str]:
    """The arguments for Hydra, which wants all overrides together; with the data that ship where the user has named none."""
    is_query = any(argument.startswith(("--help", "-h", "--hydra-help", "--version")) for argument in arguments)
    names_data = any(argument.lstrip("+").startswith(_CHOICES_OF_DATA) for argument in arguments)
    ours = [] if is_query or names_data else ["experiment=ethanol"]
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    others = [argument for argument in arguments if argument not in overrides]
    return [_quoted(f"++{override}" if override.startswith(_OPEN_KEYS) else override) for override in overrides] + ours + others


def _quoted(override: str) -> str:
    """Quotes around the value of a path, which may hold `=`, `~` and spaces; lists, sweeps, null and what is quoted already stay."""
    key, _, value = override.partition("=")
    is_plain = key in _PATHS and value not in ("", "null") and not any(mark in value for mark in "[]{}()$,'\"")
    return f"{key}='{value}'" if is_plain else override


class _Jobs:
    """What Hydra calls for each job. Errors are kept until all are done: about one that left a job Hydra would print lines of its own."""

    def __init__(self) -> None:
        self.num_begun = 0
        self.errors: list[InputError | TrainingError] = []

    def run(self, composed: DictConfig) -> None:
        self.num_begun += 1
        try:
            _job(composed)
        except (InputError, TrainingError) as error:
            self.errors.append(error)
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere
            self.errors.append(InputError(one_line(error)))


def _job(composed: DictConfig) -> None:
    check_keys(composed)
    if OmegaConf.is_missing(composed, "data") or composed.data.train is None:
        raise InputError("data.train: no training file; give data.train=FILE, or data=ethanol for the data that ship")
    config = OmegaConf.to_object(composed)
    run_dir = _make_run_dir(HydraConfig.get().runtime.output_dir, resume=config.trainer.resume is not None)
    try:
        setup_logging(run_dir / "train.log")
    except OSError as error:
        raise InputError(f"run_dir={run_dir}: cannot be written ({error.strerror})") from error
    try:
        with last_words(lambda text: _tell_of_the_checkpoint(text, run_dir)):
            results = train(config, run_dir, command_started())
    except KeyboardInterrupt as error:
        _tell_of_the_checkpoint(str(error) or "interrupted", run_dir)
        raise
    _report(results, run_dir)


def _tell_of_the_checkpoint(why: str, run_dir: Path) -> None:
    saved = any(path.name.isdigit() for path in (run_dir / "checkpoints").iterdir())
    advice = f"to continue from the last checkpoint add run_dir={run_dir} trainer.resume=auto" if saved else "no checkpoint yet"
    _LOG.warning("%s; %s", why, advice)


def _make_run_dir(path: str, resume: bool) -> Path:
    """Make the run directory; one that already holds a run is only accepted to resume it.

    Raises:
        InputError: it holds a run, or cannot be made or written.
    """
    run_dir = Path(path).expanduser().absolute()
    if (run_dir / "config.yaml").exists() and not resume:
        raise InputError(f"run_dir={path}: already holds a run; continue it with trainer.resume=auto, or choose another run_dir")
    try:
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"run_dir={path}: cannot be made or written ({error.strerror})") from error
    return run_dir


def _report(results: dict, run_dir: Path) -> None:
    """The last lines of a training: errors per file, and where everything is."""
    for line in error_table({"validation": results["valid"], **results["test"]}):
        _LOG.info(line)
    counts = f"{results['steps']} steps in {results['epochs']} epochs"
    seconds = results["step_seconds"]
    step = "" if seconds is None else f"{1000 * seconds:.1f} ms a step, "
    _LOG.info("%s, %.0f s in all, %s%.1f s of compilation", counts, results["total_seconds"], step, results["compile_seconds"])
    _LOG.info("run directory: %s", run_dir)
