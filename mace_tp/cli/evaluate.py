"""`mace-tp evaluate`: errors of a trained model on files, and its predictions."""

import argparse
import json
from pathlib import Path

import jax

from mace_tp.cli.report import error_table
from mace_tp.config import Config, build_device, build_dtype
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import require_labels
from mace_tp.data.writers import write_predictions
from mace_tp.environment import describe
from mace_tp.errors import InputError
from mace_tp.evaluation import Evaluation, Evaluator, short_names
from mace_tp.parity import draw_parity
from mace_tp.saved_model import Model, load_model


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size}: must be positive")
    dtype = None if options.dtype is None else build_dtype(Config(dtype=options.dtype))
    device = build_device(Config(device=options.device))
    keys = LabelKeys(energy=options.energy_key, forces=options.forces_key, stress=options.stress_key)
    with jax.default_device(device):
        model = load_model(options.model, dtype)
        environment = describe(device, str(jax.tree.leaves(model.params)[0].dtype))
        print(" · ".join(f"{name} {value}" for name, value in environment.items()))
        evaluator = Evaluator(model, options.batch_size)
        evaluations = {path: evaluator.evaluate_file(path, keys, skip_bad=options.skip_bad_frames) for path in options.files}
    if not options.predictions:
        for path, evaluation in evaluations.items():
            _require_errors(path, evaluation, keys)
    errors = {path: evaluation.errors for path, evaluation in evaluations.items()}
    print("\n".join(error_table(errors)))
    if options.json:
        _write_json(options.json, {"model": str(options.model), "files": errors, "environment": environment})
    if options.predictions:
        _write_predictions(options.predictions, model, list(evaluations.values()))
    if options.plots:
        _draw(options.plots, evaluations)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mace-tp evaluate", description="Energy, force and stress errors of a trained model.")
    parser.add_argument("model", type=Path, help="run directory, or the folder `model` in it")
    parser.add_argument("files", nargs="+", metavar="FILE", help="extended XYZ (also .gz, .xz), rMD17 .npz, or anything that ASE reads")
    parser.add_argument(
        "--predictions", type=Path, metavar="OUT.extxyz", help="write MACE_energy, MACE_forces, MACE_stress beside the labels"
    )
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write the errors")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw parity plots")
    parser.add_argument("--skip-bad-frames", action="store_true", help="list frames that cannot be used, and go on without them")
    parser.add_argument("--batch-size", type=int, default=20, help="configurations per batch (default 20)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: as trained")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    defaults = LabelKeys()
    parser.add_argument("--energy-key", default=defaults.energy, help="(default %(default)s)")
    parser.add_argument("--forces-key", default=defaults.forces, help="(default %(default)s)")
    parser.add_argument("--stress-key", default=defaults.stress, help="(default %(default)s)")
    return parser


def _require_errors(path: str, evaluation: Evaluation, keys: LabelKeys) -> None:
    """Without a label there is no error to tell.

    Raises:
        InputError: neither energies nor forces; lists the keys that the file has.
    """
    if evaluation.errors.keys() == {"num_configs"}:
        require_labels(evaluation.configurations, keys, ("energy", "forces"), path)


def _write_json(path: Path, content: dict) -> None:
    try:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror})") from error
    print(f"errors: {path}")


def _write_predictions(path: Path, model: Model, evaluations: list[Evaluation]) -> None:
    configurations = [configuration for evaluation in evaluations for configuration in evaluation.configurations]
    predicted = [prediction for evaluation in evaluations for prediction in evaluation.predictions]
    energies = [energy for evaluation in evaluations for energy in evaluation.total_energies(model)]
    write_predictions(path, configurations, energies, [p.forces for p in predicted], [p.stress for p in predicted])
    print(f"predictions: {path}")


def _draw(folder: Path, evaluations: dict[str, Evaluation]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--plots {folder}: cannot be made ({error.strerror})") from error
    names = short_names(evaluations)
    for path, evaluation in evaluations.items():
        draw_parity(evaluation.graphs, evaluation.predictions, names[path], folder)
    print(f"plots: {folder}")
