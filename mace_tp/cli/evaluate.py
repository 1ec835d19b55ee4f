"""`mace-tp evaluate`: errors and predictions of a trained model on files."""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from mace_tp.cli.compilation_display import told_compilations
from mace_tp.cli.outputs import make_folder, require_new_file, require_new_folder
from mace_tp.cli.report import breakdown_lines, conservativity_lines, error_table
from mace_tp.cli.signals import raising
from mace_tp.data.configuration import LabelKeys
from mace_tp.data.readers import is_extended_xyz, require_labels
from mace_tp.data.writers import PREDICTED, write_predictions
from mace_tp.errors import InputError
from mace_tp.evaluation.conservativity import measure_conservativity
from mace_tp.evaluation.errors_by_group import Breakdown
from mace_tp.evaluation.evaluate import Evaluation, Evaluator, short_names
from mace_tp.evaluation.metrics import UNITS
from mace_tp.evaluation.parity_plots import draw_errors, draw_parity
from mace_tp.model.potential import Potential
from mace_tp.model.saved_model import load_model
from mace_tp.runtime.devices import find_device, set_dtype
from mace_tp.runtime.environment import describe
from mace_tp.simulation.energy_drift import NVERun, energy_drift

_NUM_WORST = 10  # configurations that the JSON lists at least
_UNITS = UNITS | {"energy_error": UNITS["energy_rmse"]}


@told_compilations()
def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    _require_positive(options)
    _require_places(options)
    dtype = None if options.dtype is None else set_dtype(options.dtype)
    device = find_device(options.device)
    keys = LabelKeys(energy=options.energy_key, forces=options.forces_key, stress=options.stress_key)
    if options.predictions:
        _require_other_names(keys)
    with jax.default_device(device):
        model = load_model(options.model, dtype)
        environment = describe(device, str(model.dtype))
        print(" · ".join(f"{name} {value}" for name, value in environment.items()))
        evaluator = Evaluator(model, options.batch_size)
        evaluations = {path: evaluator.evaluate_file(path, keys, skip_bad=options.skip_bad_frames) for path in options.files}
        measured = {path: _conservativity(model, evaluation, options) for path, evaluation in evaluations.items() if options.conservativity}
    if not options.predictions and not options.conservativity:
        for path, evaluation in evaluations.items():
            _require_errors(path, evaluation, keys)
    breakdowns = {path: evaluation.breakdown(max(options.worst, _NUM_WORST)) for path, evaluation in evaluations.items()}
    _print_errors(evaluations, breakdowns, options.worst)
    if options.conservativity:
        print("\n".join(conservativity_lines(model.architecture.forces, str(environment["dtype"]), measured)))
    if options.json:
        files = {path: evaluation.errors | _in_json(breakdowns[path]) for path, evaluation in evaluations.items()}
        content = {"model": str(options.model), "units": _UNITS, "files": files, "environment": environment, "conservativity": measured}
        _write_json(options.json, content | {"forces": model.architecture.forces, "tensor_product": asdict(model.tensor_product)})
    if options.predictions:
        with raising():
            _write_predictions(options.predictions, model, list(evaluations.values()))
    if options.plots:
        _draw(options.plots, evaluations)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mace-tp evaluate", description="Compute energy, force and stress errors of a trained model.")
    parser.add_argument("model", type=Path, help="run directory, or the folder `model` in it")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="extended XYZ (also .gz, .xz, .bz2), rMD17 .npz, or any format that ASE reads"
    )
    parser.add_argument(
        "--predictions", type=Path, metavar="OUT.extxyz", help="write MACE_energy, MACE_forces, MACE_stress beside the labels"
    )
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write the errors")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw parity plots and histograms of the errors")
    parser.add_argument(
        "--worst", type=int, default=3, metavar="N", help=f"list the N worst configurations (default %(default)s; {_NUM_WORST} in the JSON)"
    )
    parser.add_argument("--conservativity", action="store_true", help="measure how far forces are from a gradient, and the drift of energy")
    nve = NVERun()
    parser.add_argument("--conservativity-configs", type=int, default=5, metavar="N", help="configurations per file (default %(default)s)")
    parser.add_argument("--nve-steps", type=int, default=nve.num_steps, help="starting from the first of them (default %(default)s)")
    parser.add_argument("--nve-timestep", type=float, default=nve.timestep, help="fs (default %(default)s)")
    parser.add_argument("--nve-temperature", type=float, default=nve.temperature, help="at the start, K (default %(default)s)")
    parser.add_argument("--skip-bad-frames", action="store_true", help="list and skip frames that cannot be used")
    parser.add_argument("--batch-size", type=int, default=20, help="configurations per batch (default 20)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: as trained")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    defaults = LabelKeys()
    parser.add_argument("--energy-key", default=defaults.energy, help="(default %(default)s)")
    parser.add_argument("--forces-key", default=defaults.forces, help="(default %(default)s)")
    parser.add_argument("--stress-key", default=defaults.stress, help="(default %(default)s)")
    return parser


def _require_positive(options: argparse.Namespace) -> None:
    counts = {"--batch-size": options.batch_size, "--conservativity-configs": options.conservativity_configs}
    nve = {"--nve-steps": options.nve_steps, "--nve-timestep": options.nve_timestep, "--nve-temperature": options.nve_temperature}
    for flag, value in {**counts, **nve}.items():
        if not 0 < value < math.inf:
            raise InputError(f"{flag} {value}: must be positive")
    if options.worst < 0:
        raise InputError(f"--worst {options.worst}: must not be negative; 0 lists none")


def _require_places(options: argparse.Namespace) -> None:
    """Check all outputs before the evaluation, which may take long.

    Raises:
        InputError: an output cannot be written, would replace an input, or has the suffix of another format.
    """
    if options.predictions:
        require_new_file("--predictions", options.predictions, options.files)
        if not is_extended_xyz(options.predictions):
            raise InputError(
                f"--predictions {options.predictions}: is extended XYZ, must end in .extxyz or .xyz (also with .gz, .xz, .bz2)"
            )
    if options.json:
        require_new_file("--json", options.json, options.files)
    if options.plots:
        require_new_folder("--plots", options.plots)


def _require_other_names(keys: LabelKeys) -> None:
    """Require that labels and predictions have different names, because both are written to one file.

    Raises:
        InputError: the key of a label is the name of a prediction.
    """
    for field, key in asdict(keys).items():
        if key in PREDICTED.values():
            raise InputError(f"--{field}-key {key}: --predictions writes the predictions of this model under that name; rename the labels")


def _conservativity(model: Potential, evaluation: Evaluation, options: argparse.Namespace) -> dict[str, Any]:
    """Measure configurations spread evenly over a file, and the drift of a run from the first one."""
    graphs = evaluation.graphs[:: -(-len(evaluation.graphs) // options.conservativity_configs)]
    nve = NVERun(options.nve_steps, options.nve_timestep, options.nve_temperature)
    configurations: list[dict[str, Any]] = [
        asdict(found) | {"source": graph.source} for graph, found in zip(graphs, measure_conservativity(model, graphs), strict=True)
    ]
    drift = energy_drift(model, evaluation.configurations[0], nve, options.device)
    return {
        "mean": {name: sum(c[name] for c in configurations) / len(graphs) for name in ("asymmetry", "rest_share", "loop_work")},
        "configurations": configurations,
        "nve": asdict(nve) | {"asked_steps": nve.num_steps} | asdict(drift),
    }


def _require_errors(path: str, evaluation: Evaluation, keys: LabelKeys) -> None:
    """Require labels, without which there are no errors.

    Raises:
        InputError: the file has neither energies nor forces; lists the keys that it has.
    """
    if not evaluation.is_labelled:
        require_labels(evaluation.configurations, keys, ("energy", "forces"), path)


def _print_errors(evaluations: dict[str, Evaluation], breakdowns: dict[str, Breakdown], num_worst: int) -> None:
    lines = error_table({path: evaluation.errors for path, evaluation in evaluations.items()})
    for path, breakdown in breakdowns.items():
        lines += breakdown_lines(path, breakdown, num_worst)
    print("\n".join(lines))


def _in_json(breakdown: Breakdown) -> dict[str, Any]:
    worst = {"forces": list(map(asdict, breakdown.worst_forces)), "energy": list(map(asdict, breakdown.worst_energies))}
    return {"per_element": breakdown.per_element, "per_config_type": breakdown.per_config_type, "worst": worst}


def _write_json(path: Path, content: dict) -> None:
    text = json.dumps(_strict(content), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be Unicode
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror})") from error
    print(f"errors: {path}")


def _strict(value: Any) -> Any:
    """Replace numbers that are not finite by null, as in `metrics.jsonl`: JSON has only finite ones."""
    if isinstance(value, dict):
        return {name: _strict(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_predictions(path: Path, model: Potential, evaluations: list[Evaluation]) -> None:
    configurations = [configuration for evaluation in evaluations for configuration in evaluation.configurations]
    predicted = [prediction for evaluation in evaluations for prediction in evaluation.predictions]
    energies = [energy for evaluation in evaluations for energy in evaluation.total_energies(model)]
    write_predictions(path, configurations, energies, [p.forces for p in predicted], [p.stress for p in predicted])
    print(f"predictions: {path}")


def _draw(folder: Path, evaluations: dict[str, Evaluation]) -> None:
    labelled = {path: evaluation for path, evaluation in evaluations.items() if evaluation.is_labelled}
    if not labelled:
        print("plots: none, because nothing is labelled")
        return
    make_folder("--plots", folder)
    names = short_names(evaluations)
    for path, evaluation in labelled.items():
        draw_parity(evaluation.graphs, evaluation.predictions, names[path], folder)
        draw_errors(evaluation.configuration_errors(), names[path], folder)
    print(f"plots: {folder}")
