"""`mace-tp train`: Hydra composes the configuration, `mace_tp.training.train` does the work."""

import contextlib
import dataclasses
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mace_tp.cli.compilation_display import elapsed_time
from mace_tp.cli.config_errors import check_keys, one_line, to_config
from mace_tp.cli.config_file import ConfigFile, read_config_file
from mace_tp.cli.main import command_started
from mace_tp.cli.outputs import require_new_folder
from mace_tp.cli.overrides import for_hydra
from mace_tp.cli.report import error_table
from mace_tp.cli.shipped import config_directory, shipped_data
from mace_tp.cli.signals import last_words
from mace_tp.cli.standard_streams import outlived_output
from mace_tp.config import Config, check_config
from mace_tp.errors import InputError, TrainingError
from mace_tp.runtime.compilation import shown_compilations
from mace_tp.training.dry_run import dry_run
from mace_tp.training.loggers import FILE_ONLY, setup_logging
from mace_tp.training.train import train

_LOG = logging.getLogger("mace_tp")
# With one of these the user has said what to train on; otherwise it is the data that ship.
_CHOICES_OF_DATA = ("data=", "data.train=", "experiment=")
_FILE = "--config FILE takes a YAML file of your own"
_COMPLETION = "mace-tp completion bash prints a script for the shell"
# Options of Hydra's that lead nowhere in this program.
_NOT_HERE = {
    **dict.fromkeys(("--config-path", "-cp", "--config-name", "-cn"), _FILE),
    **dict.fromkeys(("--shell-completion", "-sc"), _COMPLETION),
}


def main(arguments: list[str]) -> None:
    """Compose, then train once for each job of a sweep."""
    options = _Options.of(arguments)
    OmegaConf.register_new_resolver("shipped_data", shipped_data, replace=True)
    OmegaConf.register_new_resolver("expand_user", os.path.expanduser, replace=True)
    file = None if options.config_file is None else read_config_file(options.config_file, options.overrides, is_sweep=options.is_sweep)
    ConfigStore.instance().store(name="schema", node=Config if file is None else file.schema)
    given = _completed(options, file)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come to us instead of being printed by Hydra
    jobs = _Jobs(_rehearse if options.is_dry_run else _job)
    try:
        if options.shows_config:
            _check_before_showing(given)
        with tempfile.TemporaryDirectory() if options.is_dry_run else contextlib.nullcontext() as elsewhere:
            places = [f"hydra.{mode}.dir={elsewhere}" for mode in ("run", "sweep") if elsewhere]
            sys.argv = ["mace-tp train", *given, *places, *options.of_hydra]
            hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")(jobs.run)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(one_line(error)) from error
    except OSError as error:
        if jobs.num_begun or error.filename is None:
            raise
        raise InputError(f"run_dir: {error.filename} cannot be made or written ({error.strerror})") from error
    jobs.raise_errors(is_sweep=options.is_sweep)


@dataclasses.dataclass(frozen=True)
class _Options:
    """The arguments: overrides, and what begins with a dash."""

    overrides: list[str]
    of_hydra: list[str]
    config_file: str | None = None
    is_dry_run: bool = False

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "_Options":
        """Sort the arguments.

        Raises:
            InputError: an option of Hydra's that does nothing good here; names the one that does.
        """
        left, overrides, of_hydra, file, is_dry_run = list(arguments), [], [], None, False
        while left:
            word, equals, value = left.pop(0).partition("=")
            if word == "--config":
                if not (equals or left):
                    raise InputError("--config: no file; mace-tp train --config FILE KEY=VALUE ...")
                before, file = file, value if equals else left.pop(0)
                if before is not None:
                    raise InputError(f"--config {file}: there is --config {before} already; give one file")
            elif word == "--dry-run":
                is_dry_run = True
            elif word in _NOT_HERE:
                raise InputError(f"{word}: {_NOT_HERE[word]}")
            elif equals and not word.startswith("-"):
                overrides.append(f"{word}={value}")
            else:
                of_hydra.append(f"{word}{equals}{value}")
        return cls(overrides, of_hydra, file, is_dry_run)

    def has(self, *options: str) -> bool:
        return any(option.partition("=")[0] in options for option in self.of_hydra)

    @property
    def is_sweep(self) -> bool:
        return self.has("-m", "--multirun")

    @property
    def shows_config(self) -> bool:
        return self.has("-c", "--cfg")


def _completed(options: _Options, file: ConfigFile | None) -> list[str]:
    """The overrides for Hydra, with the data that ship where the user has named none."""
    names_data = any(override.lstrip("+").startswith(_CHOICES_OF_DATA) for override in options.overrides)
    if options.has("--help", "-h", "--hydra-help") or names_data or (file is not None and file.names_data):
        ours = []
    else:
        ours = ["experiment=ethanol"] if file is None else ["data=ethanol"]  # the experiment has a time limit, which the file may have, too
    of_file = [] if file is None else file.overrides(options.overrides)
    return [*for_hydra([*of_file, *options.overrides], is_sweep=options.is_sweep), *ours]


def _check_before_showing(overrides: list[str]) -> None:
    """Hydra shows a configuration without looking at its values.

    Raises:
        InputError: there is one that cannot be used.
    """
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = compose("config", overrides)
    check_keys(composed)
    check_config(to_config(composed))


class _Jobs:
    """What Hydra calls for each job. Errors are kept until all are done: about one that left a job Hydra would print lines of its own."""

    def __init__(self, job: Callable[[DictConfig], None]) -> None:
        self.job = job
        self.num_begun = 0
        self.errors: dict[int, InputError | TrainingError] = {}  # by the job's number, which is the name of its run directory

    def run(self, composed: DictConfig) -> None:
        number, self.num_begun = self.num_begun, self.num_begun + 1
        try:
            self.job(composed)
        except (InputError, TrainingError) as error:
            self.errors[number] = error
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere
            self.errors[number] = InputError(one_line(error))

    def raise_errors(self, is_sweep: bool) -> None:
        """Raise one error, of the kind of the first, with what all jobs have raised; in a sweep with their numbers."""
        texts: dict[str, list[str]] = {}
        for number, error in self.errors.items():
            texts.setdefault(str(error), []).append(str(number))
        if texts:
            jobs = {text: f"job{'s'[: len(numbers) - 1]} {', '.join(numbers)}: " if is_sweep else "" for text, numbers in texts.items()}
            raise type(next(iter(self.errors.values())))("; ".join(f"{job}{text}" for text, job in jobs.items()))


def _job(composed: DictConfig) -> None:
    config = _config(composed)
    run_dir = _make_run_dir(HydraConfig.get().runtime.output_dir, resume=config.trainer.resume is not None)
    _log_to(run_dir / "train.log", run_dir)
    display = elapsed_time if config.logger.progress else contextlib.nullcontext
    with outlived_output(_teller_of_lost_output(run_dir)):
        try:
            with shown_compilations(display), last_words(lambda text: _tell_of_the_checkpoint(text, run_dir)):
                results = train(config, run_dir, command_started())
        except KeyboardInterrupt as error:
            _tell_of_the_checkpoint(str(error) or "interrupted", run_dir)
            raise
        _report(results, run_dir)


def _rehearse(composed: DictConfig) -> None:
    """`--dry-run`: Hydra's own folder is a temporary one."""
    config, of_hydra = _config(composed), HydraConfig.get()
    is_sweep = of_hydra.mode == RunMode.MULTIRUN
    run_dir = _new_run_dir(str(Path(config.run_dir, str(of_hydra.job.num) if is_sweep else "")), resume=config.trainer.resume is not None)
    require_new_folder("run_dir", run_dir)
    _log_to(Path(of_hydra.runtime.output_dir) / "train.log", run_dir)
    dry_run(config, run_dir)


def _teller_of_lost_output(run_dir: Path) -> Callable[[str], None]:
    """Writes to standard error as it is now: a live bar puts itself, and with it the lost output, in its place."""
    stderr = sys.stderr

    def tell(why: str) -> None:
        text = f"{why}; the training goes on, and {run_dir / 'train.log'} has its lines"
        FILE_ONLY.warning(text)
        print(f"mace-tp train: {text}", file=stderr)

    return tell


def _tell_of_the_checkpoint(why: str, run_dir: Path) -> None:
    saved = any(path.name.isdigit() for path in (run_dir / "checkpoints").iterdir())
    # As one word of a shell.
    advice = f"to continue from the last checkpoint add {shlex.quote(f'run_dir={run_dir}')} trainer.resume=auto"
    _LOG.warning("%s; %s", why, advice if saved else "no checkpoint yet")


def _config(composed: DictConfig) -> Config:
    """The configuration of a job.

    Raises:
        InputError: a key is not known, or there are no data.
    """
    check_keys(composed)
    if OmegaConf.is_missing(composed, "data") or composed.data.train is None:
        raise InputError("data.train: no training file; give data.train=FILE, or data=ethanol for the data that ship")
    return to_config(composed)


def _log_to(path: Path, run_dir: Path) -> None:
    try:
        setup_logging(path)
    except OSError as error:
        raise InputError(f"run_dir={run_dir}: cannot be written ({error.strerror})") from error


def _new_run_dir(path: str, resume: bool) -> Path:
    """The place of the run directory; one that already holds a run is only accepted to resume it.

    Raises:
        InputError: it holds a run.
    """
    run_dir = Path(os.path.expanduser(path)).absolute()
    if (run_dir / "config.yaml").exists() and not resume:
        raise InputError(f"run_dir={path}: already holds a run; continue it with trainer.resume=auto, or choose another run_dir")
    return run_dir


def _make_run_dir(path: str, resume: bool) -> Path:
    """Make the run directory.

    Raises:
        InputError: it holds a run that is not resumed, or cannot be made or written.
    """
    run_dir = _new_run_dir(path, resume)
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
