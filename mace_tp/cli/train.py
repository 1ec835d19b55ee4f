"""`mace-tp train`: Hydra composes the configuration, `mace_tp.training.train` does the work."""

import contextlib
import dataclasses
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
from mace_tp.run_directory import CHECKPOINTS, CONFIG, LOG
from mace_tp.runtime.compilation import shown_compilations
from mace_tp.training.dry_run import dry_run
from mace_tp.training.loggers import FILE_ONLY, setup_logging
from mace_tp.training.train import train

_LOG = logging.getLogger("mace_tp")
# With one of these the user names the data; otherwise the data that ship are used.
_CHOICES_OF_DATA = ("data=", "data.train=", "experiment=")
_FILE = "--config FILE takes a YAML file of your own"
_COMPLETION = "mace-tp completion bash prints a script for the shell"
# Options of Hydra that this program does not offer.
_NOT_HERE = {
    **dict.fromkeys(("--config-path", "-cp", "--config-name", "-cn"), _FILE),
    **dict.fromkeys(("--shell-completion", "-sc"), _COMPLETION),
}


def main(arguments: list[str]) -> None:
    """Compose the configuration, then train once for each job of a sweep."""
    options, jobs = _Options.of(arguments), _Jobs()

    def job(composed: DictConfig) -> None:
        """Hydra calls this for each job."""
        with jobs.errors_kept():
            config = _config(composed)
            if options.is_dry_run:
                _rehearse(config)
                return
            run_dir = _make_run_dir(config)
            with outlived_output(_teller_of_lost_output(run_dir)):
                with _stops_told(config, run_dir):
                    results = train(config, run_dir, command_started())
                _report(results, run_dir)

    try:
        _run_with_hydra(job, options)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(one_line(error)) from error
    except OSError as error:
        if jobs.num_begun or error.filename is None:
            raise
        raise InputError(f"run_dir: {error.filename} cannot be made or written ({error.strerror})") from error
    jobs.raise_errors(is_sweep=options.is_sweep)


@dataclasses.dataclass(frozen=True)
class _Options:
    """The arguments: overrides, and options, which begin with a dash."""

    overrides: list[str]
    of_hydra: list[str]
    config_file: str | None = None
    is_dry_run: bool = False

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "_Options":
        """Sort the arguments.

        Raises:
            InputError: an option of Hydra that this program does not offer; names the one to use.
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


def _run_with_hydra(job: Callable[[DictConfig], None], options: _Options) -> None:
    """Have Hydra compose the configuration and call the job, once or for each job of a sweep."""
    OmegaConf.register_new_resolver("shipped_data", shipped_data, replace=True)
    OmegaConf.register_new_resolver("expand_user", os.path.expanduser, replace=True)
    file = None if options.config_file is None else read_config_file(options.config_file, options.overrides, is_sweep=options.is_sweep)
    ConfigStore.instance().store(name="schema", node=Config if file is None else file.schema)
    overrides = _completed(options, file)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises exceptions instead of printing them
    if options.shows_config:
        _check_before_showing(overrides)
    with tempfile.TemporaryDirectory() if options.is_dry_run else contextlib.nullcontext() as elsewhere:
        places = [f"hydra.{mode}.dir={elsewhere}" for mode in ("run", "sweep") if elsewhere]
        sys.argv = ["mace-tp train", *overrides, *places, *options.of_hydra]
        hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")(job)()


def _completed(options: _Options, file: ConfigFile | None) -> list[str]:
    """The overrides for Hydra, and the data that ship if the user has named none."""
    names_data = any(override.lstrip("+").startswith(_CHOICES_OF_DATA) for override in options.overrides)
    if options.has("--help", "-h", "--hydra-help") or names_data or (file is not None and file.names_data):
        ours = []
    else:
        ours = ["experiment=ethanol"] if file is None else ["data=ethanol"]  # the experiment has a time limit; so may the file
    of_file = [] if file is None else file.overrides(options.overrides)
    return [*for_hydra([*of_file, *options.overrides], is_sweep=options.is_sweep), *ours]


def _check_before_showing(overrides: list[str]) -> None:
    """Check a configuration that Hydra will show without looking at its values.

    Raises:
        InputError: a value cannot be used.
    """
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = compose("config", overrides)
    check_keys(composed)
    check_config(to_config(composed))


class _Jobs:
    """The jobs of a command. Errors are kept until all jobs are done, because Hydra prints lines of its own about an exception."""

    def __init__(self) -> None:
        self.num_begun = 0
        self.errors: dict[int, InputError | TrainingError] = {}  # by the job's number, which is the name of its run directory

    @contextlib.contextmanager
    def errors_kept(self) -> Iterator[None]:
        """Begin a job, and keep the error that ends it."""
        number, self.num_begun = self.num_begun, self.num_begun + 1
        try:
            yield
        except (InputError, TrainingError) as error:
            self.errors[number] = error
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere
            self.errors[number] = InputError(one_line(error))

    def raise_errors(self, is_sweep: bool) -> None:
        """Raise one error with the messages of all jobs, in a sweep with their numbers; its type is that of the first."""
        texts: dict[str, list[str]] = {}
        for number, error in self.errors.items():
            texts.setdefault(str(error), []).append(str(number))
        if texts:
            jobs = {text: f"job{'s'[: len(numbers) - 1]} {', '.join(numbers)}: " if is_sweep else "" for text, numbers in texts.items()}
            raise type(next(iter(self.errors.values())))("; ".join(f"{job}{text}" for text, job in jobs.items()))


def _rehearse(config: Config) -> None:
    """Do a dry run; Hydra's own folder is a temporary one."""
    of_hydra = HydraConfig.get()
    is_sweep = of_hydra.mode == RunMode.MULTIRUN
    run_dir = _new_run_dir(str(Path(config.run_dir, str(of_hydra.job.num) if is_sweep else "")), resume=config.trainer.resume is not None)
    require_new_folder("run_dir", run_dir)
    _log_to(Path(of_hydra.runtime.output_dir) / LOG, run_dir)
    dry_run(config, run_dir)


@contextlib.contextmanager
def _stops_told(config: Config, run_dir: Path) -> Iterator[None]:
    """Show compilations. If a signal ends the training, log how to continue it."""
    display = elapsed_time if config.logger.progress else contextlib.nullcontext
    try:
        with shown_compilations(display), last_words(lambda text: _tell_of_the_checkpoint(text, run_dir)):
            yield
    except KeyboardInterrupt as error:
        _tell_of_the_checkpoint(str(error) or "interrupted", run_dir)
        raise


def _teller_of_lost_output(run_dir: Path) -> Callable[[str], None]:
    """A function that warns of lost output, on the standard error of now: a live bar replaces it by the output that is lost."""
    stderr = sys.stderr

    def tell(why: str) -> None:
        text = f"{why}; the training goes on, and {run_dir / 'train.log'} has its lines"
        FILE_ONLY.warning(text)
        print(f"mace-tp train: {text}", file=stderr)

    return tell


def _tell_of_the_checkpoint(why: str, run_dir: Path) -> None:
    saved = any(path.name.isdigit() for path in (run_dir / CHECKPOINTS).iterdir())
    # Quoted for the shell.
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
    """The path of the run directory. A directory that already holds a run is accepted only to resume it.

    Raises:
        InputError: it holds a run.
    """
    run_dir = Path(os.path.expanduser(path)).absolute()
    if (run_dir / CONFIG).exists() and not resume:
        raise InputError(f"run_dir={path}: already holds a run; continue it with trainer.resume=auto, or choose another run_dir")
    return run_dir


def _make_run_dir(config: Config) -> Path:
    """Make the run directory, and log into it.

    Raises:
        InputError: it holds a run that is not to be resumed, or cannot be made or written.
    """
    path = HydraConfig.get().runtime.output_dir
    run_dir = _new_run_dir(path, resume=config.trainer.resume is not None)
    try:
        (run_dir / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"run_dir={path}: cannot be made or written ({error.strerror})") from error
    _log_to(run_dir / LOG, run_dir)
    return run_dir


def _report(results: dict, run_dir: Path) -> None:
    """Log the last lines of a training: errors for each file, counts, times, and the run directory."""
    for line in error_table({"validation": results["valid"], **results["test"]}):
        _LOG.info(line)
    counts = f"{results['steps']} steps in {results['epochs']} epochs"
    seconds = results["step_seconds"]
    step = "" if seconds is None else f"{1000 * seconds:.1f} ms a step, "
    _LOG.info("%s, %.0f s in all, %s%.1f s of compilation", counts, results["total_seconds"], step, results["compile_seconds"])
    _LOG.info("run directory: %s", run_dir)
