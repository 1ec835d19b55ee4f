"""`mace-tp convert`: converts models of ACEsuit's mace-torch to mace-tp and back."""

import argparse
import hashlib
import shlex
from pathlib import Path

from mace_tp.cli.outputs import require_absent, require_new_folder
from mace_tp.data.elements import symbols
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.model.mace_torch import convert, files
from mace_tp.model.potential import Potential
from mace_tp.model.saved_model import load_model, save_model
from mace_tp.runtime.devices import set_dtype
from mace_tp.training.fine_tuning import LEARNING_RATE


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mace-tp convert", description="Read or write a model of mace-torch.")
    commands = parser.add_subparsers(required=True, metavar="mace-torch | to-mace-torch")
    read = commands.add_parser("mace-torch", help="FILE.model of mace-torch → a model of mace-tp")
    read.add_argument("file", type=Path, metavar="FILE.model")
    read.add_argument("out", type=Path, metavar="OUT", help="folder of the new model")
    read.add_argument("--trust", action="store_true", help="confirm that you trust the file: it is a pickle, which can run any code")
    read.add_argument("--head", help="the head to read from a model with several heads")
    read.add_argument("--dtype", choices=("float32", "float64"), help="default: that of the file")
    read.set_defaults(run=_read)
    write = commands.add_parser("to-mace-torch", help="a model of mace-tp → FILE.model of mace-torch")
    write.add_argument("model", type=Path, metavar="MODEL", help="run directory, or the folder `model` in it")
    write.add_argument("out", type=Path, metavar="OUT.model")
    write.add_argument("--dtype", choices=("float32", "float64"), help="default: as trained")
    write.set_defaults(run=_write)
    for command in (read, write):
        command.add_argument("--force", action="store_true", help="replace OUT if it exists")
    return parser


def _read(options: argparse.Namespace) -> None:
    if not options.trust:
        raise InputError(f"{options.file}: a .model file is a pickle, which can run anything when it is read; if you trust it, add --trust")
    require_absent(options.out, force=options.force)
    require_new_folder("OUT", options.out)
    source = files.read(options.file, options.head)
    dtype = options.dtype or source.dtype
    try:
        model = convert.to_model(source, set_dtype(dtype))
    except ValueError as error:
        raise InputError(f"{options.file}: {error}") from error
    digest = hashlib.sha256(options.file.read_bytes()).hexdigest()
    try:
        save_model(options.out, model, {"converted_from": {"file": options.file.name, "sha256": digest, "head": options.head}})
    except OSError as error:
        raise InputError(f"{options.out}: cannot be written ({error.strerror})") from error
    print(f"{options.out}: {model.num_parameters} parameters, elements {symbols(model.statistics.atomic_numbers)}")
    line = ["mace-tp", "train", f"model.init_from={options.out}", *_keys(model, dtype), "data.train=FILE"]
    print(f"to train it further: {shlex.join(line)}")


def _write(options: argparse.Namespace) -> None:
    require_absent(options.out, force=options.force)
    model = load_model(options.model, None if options.dtype is None else set_dtype(options.dtype))
    convert.write_model(options.out, model)
    print(f"{options.out}: a ScaleShiftMACE in {model.dtype}, for mace.calculators.MACECalculator with default_dtype='{model.dtype}'")


def _keys(model: Potential, dtype: str) -> list[str]:
    """Return the configuration keys of this architecture, and those for continuing to train a converted model."""
    defaults = Architecture().to_dict()
    changed = {name: value for name, value in model.architecture.to_dict().items() if value != defaults[name]}
    keys = [f"model.{name}={str(value).replace(' ', '')}" for name, value in changed.items()]
    return [*keys, "data.atomic_energies=model", f"optimizer.learning_rate={LEARNING_RATE:g}", f"dtype={dtype}"]
