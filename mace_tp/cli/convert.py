"""`mace-tp convert`: models of ACEsuit's mace-torch as models of mace-tp, and back."""

import argparse
import hashlib
import os
import shlex
from pathlib import Path

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
    parser = argparse.ArgumentParser(prog="mace-tp convert", description="Read a model of mace-torch, or write one.")
    commands = parser.add_subparsers(required=True, metavar="mace-torch | to-mace-torch")
    read = commands.add_parser("mace-torch", help="FILE.model of mace-torch → a model of mace-tp")
    read.add_argument("file", type=Path, metavar="FILE.model")
    read.add_argument("out", type=Path, metavar="OUT", help="folder of the new model")
    read.add_argument("--trust", action="store_true", help="the file is a pickle, which can run anything: say that you trust it")
    read.add_argument("--head", help="of a model with several heads")
    read.add_argument("--dtype", choices=("float32", "float64"), help="default: that of the file")
    read.set_defaults(run=_read)
    write = commands.add_parser("to-mace-torch", help="a model of mace-tp → FILE.model of mace-torch")
    write.add_argument("model", type=Path, metavar="MODEL", help="run directory, or the folder `model` in it")
    write.add_argument("out", type=Path, metavar="OUT.model")
    write.add_argument("--dtype", choices=("float32", "float64"), help="default: as trained")
    write.set_defaults(run=_write)
    for command in (read, write):
        command.add_argument("--force", action="store_true", help="replace OUT if it is there")
    return parser


def _read(options: argparse.Namespace) -> None:
    if not options.trust:
        raise InputError(f"{options.file}: a .model file is a pickle, which can run anything when it is read; if you trust it, add --trust")
    _require_absent(options)
    _require_folder(options.out)
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
    _require_absent(options)
    model = load_model(options.model, None if options.dtype is None else set_dtype(options.dtype))
    convert.write_model(options.out, model)
    print(f"{options.out}: a ScaleShiftMACE in {model.dtype}, for mace.calculators.MACECalculator with default_dtype='{model.dtype}'")


def _require_absent(options: argparse.Namespace) -> None:
    if options.out.exists() and not options.force:
        raise InputError(f"{options.out}: is there already; --force replaces it")


def _require_folder(path: Path) -> None:
    """Raise an InputError, before anything is read, where no folder can be made."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"{path}: cannot be made a folder, for {there} {'cannot be written' if there.is_dir() else 'is a file'}")


def _keys(model: Potential, dtype: str) -> list[str]:
    """The keys of the configuration that make this architecture, and those with which a training goes on where the model is."""
    defaults = Architecture().to_dict()
    changed = {name: value for name, value in model.architecture.to_dict().items() if value != defaults[name]}
    keys = [f"model.{name}={str(value).replace(' ', '')}" for name, value in changed.items()]
    return [*keys, "data.atomic_energies=model", f"optimizer.learning_rate={LEARNING_RATE:g}", f"dtype={dtype}"]
