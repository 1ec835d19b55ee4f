"""`mace-tp inspect`: says what files of structures contain and what looks wrong."""

import argparse
import logging
import sys

from mace_tp.config import DataConfig
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.inspection import inspect_files
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if options.cutoff <= 0 or options.batch_size < 1:
        raise InputError(f"--cutoff {options.cutoff} --batch-size {options.batch_size}: must be positive")
    keys = LabelKeys(energy=options.energy_key, forces=options.forces_key, stress=options.stress_key)
    logged = _Logged(sys.stdout)
    logging.getLogger("mace_tp").addHandler(logged)
    lines, warnings = inspect_files(
        options.files, keys, isolated_atoms=options.isolated_atoms, cutoff=options.cutoff, batch_size=options.batch_size
    )
    print("\n".join([*lines, *(f"WARNING {line}" for line in warnings)]))
    if not warnings:
        print("nothing else looks wrong; see the warnings above" if logged.warned else "nothing looks wrong")


class _Logged(logging.StreamHandler):
    """Prints log records while the files are read, and remembers whether one was a warning."""

    warned = False

    def emit(self, record: logging.LogRecord) -> None:
        self.warned |= record.levelno >= logging.WARNING
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        # An indented line belongs to the warning before it.
        return f"WARNING {text}" if record.levelno >= logging.WARNING and not text.startswith(" ") else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mace-tp inspect", description="Say what files of structures contain and what looks wrong.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="as for a training; the first file counts as the training set")
    parser.add_argument("--isolated-atoms", metavar="FILE", help="a file of isolated atoms, for E0")
    parser.add_argument("--cutoff", type=float, default=Architecture().cutoff, help="Å (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=DataConfig().batch_size, help="for the padding (default %(default)s)")
    defaults = LabelKeys()
    parser.add_argument("--energy-key", default=defaults.energy, help="(default %(default)s)")
    parser.add_argument("--forces-key", default=defaults.forces, help="(default %(default)s)")
    parser.add_argument("--stress-key", default=defaults.stress, help="(default %(default)s)")
    return parser
