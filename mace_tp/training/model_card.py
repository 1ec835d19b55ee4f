"""The model card, Markdown beside a trained model: its data, E0s, errors, shape and versions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mace_tp.data.elements import symbol
from mace_tp.model.potential import Potential
from mace_tp.run_directory import CARD, write_atomically
from mace_tp.tensor_products.notation import site_text
from mace_tp.training.preparation import Setup
from mace_tp.training.progress import Progress
from mace_tp.training.provenance import SAME_ENERGY

Errors = Mapping[str, Mapping[str, float]]
"""{`valid` or the path of a test file: the errors of `metrics.summarize`, and `num_configs`}."""

_UNITS = {
    "force_rmse": ("force RMSE", "meV/Å"),
    "force_mae": ("force MAE", "meV/Å"),
    "energy_rmse": ("energy RMSE", "meV/atom"),
    "energy_rmse_per_config": ("total energy RMSE", "meV"),
    "stress_rmse": ("stress RMSE", "meV/Å³"),
}


def write_card(folder: Path, setup: Setup, progress: Progress, errors: Errors) -> None:
    """Write `README.md` into a model's folder.

    Args:
        folder: of the model.
        setup: of the training.
        progress: epochs and seconds so far, and the data that the model was trained on.
        errors: empty while the training has not finished.
    """
    write_atomically(folder / CARD, _card(setup, _facts(setup, progress), errors))


def describe_data(setup: Setup) -> list[str]:
    """The training data, and the digest of training and validation data, as a card states them."""
    training = _training(setup.config.data.train, len(setup.datasets.train))
    return [training, f"`{setup.datasets.fingerprints.train_and_valid.sha256}`"]


def describe_data_before(provenance: Mapping[str, Any]) -> list[str]:
    """The same from the provenance of a checkpoint of a version that kept no digest."""
    training = _training(provenance["config"]["data"]["train"], provenance["data"]["training"]["configurations"])
    return [training, "not kept by the version that trained"]


def _training(paths: str | list[str], count: int) -> str:
    return f"{_files(paths)}: {count} configurations"


def _card(setup: Setup, facts: Mapping[str, str], errors: Errors) -> str:
    rows = "\n".join(f"| {name} | {_in_a_cell(value)} |" for name, value in facts.items())
    return f"""# A MACE interatomic potential

Trained with mace-tp. Energies are in eV, lengths in Å, forces in eV/Å, stress in eV/Å³ with ASE's sign.

| | |
|---|---|
{rows}

## Elements

| element | E0, eV |
|---|---|
{_energies(setup.model)}

It knows no other element. The energy of a structure is the sum of its E0s and the interaction energy that the model predicts.

## Errors

{_errors(errors)}

## Use

```python
import mace_tp

atoms.calc = mace_tp.Calculator("folder/of/this/file")  # atoms: of ASE
```
"""


def _facts(setup: Setup, progress: Progress) -> dict[str, str]:
    config, environment = setup.config, setup.provenance["environment"]
    architecture, products = setup.model.architecture, setup.model.tensor_product
    data = progress.trained_on or [describe_data(setup)]
    interaction, product_basis = site_text(products.interaction), site_text(products.product_basis)
    shape = f"{architecture.num_channels} channels × ({architecture.hidden_irreps}), {architecture.num_interactions} layers"
    trained = f"{progress.epoch} epochs, {progress.elapsed_seconds / 60:.1f} min on {environment['device']}"
    best = f"those of epoch {progress.best_epoch}" if progress.best_epoch else "the initial ones, because no epoch is complete"
    return {
        "level of theory of the labels": config.data.theory or "not given (`data.theory=...` of the training writes it here)",
        "training data": "; then ".join(training for training, _ in data),
        "validation data": _validation(setup),
        "SHA-256 of what was read of both": data[-1][1],
        "E0s": _origin_of_energies(setup),
        "weights of the beginning": f"`{config.model.init_from}`" if config.model.init_from else f"random, seed {config.seed}",
        "tensor product": f"`{interaction}` in the interaction, `{product_basis}` in the product basis",
        "shape": f"{shape}, l_max {architecture.l_max}, correlation {architecture.correlation}",
        "cutoff": f"{architecture.cutoff:g} Å",
        "forces": _FORCES[architecture.forces],
        "parameters": f"{setup.model.num_parameters:,} in {environment['dtype']}",
        "trained": f"{trained}; the parameters are {best}",
        "versions": _versions(environment),
    }


def _validation(setup: Setup) -> str:
    files, count = setup.config.data.valid, f"{len(setup.datasets.valid)} configurations"
    if files is not None:
        return f"{_files(files)}: {count}"
    return f"{count} of the same files, drawn at random (seed {setup.config.seed})"


def _origin_of_energies(setup: Setup) -> str:
    data = setup.config.data
    choice, atoms = data.atomic_energies, data.isolated_atoms
    kept = dict(zip(setup.model.statistics.atomic_numbers, setup.model.statistics.atomic_energies))
    if any(abs(kept[number] - energy) > SAME_ENERGY for number, energy in setup.datasets.configured_energies.items()):
        return "those with which the training began"
    if choice == "isolated":
        return f"energies of isolated atoms, of {_files(data.train if atoms is None else atoms)}"
    return "fitted to the training energies by least squares" if choice == "least_squares" else "given by the user"


_FORCES = {
    "gradient": "the gradient of the energy",
    "direct": "read from the features; they are not the gradient of an energy, and there is no stress",
}


def _files(paths: str | list[str]) -> str:
    return ", ".join(_names([paths] if isinstance(paths, str) else paths).values())


def _versions(environment: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {environment[name]}" for name in ("mace_tp", "commit", "jax", "jaxlib") if name in environment)


def _energies(model: Potential) -> str:
    statistics = model.statistics
    pairs = zip(statistics.atomic_numbers, statistics.atomic_energies, strict=True)
    return "\n".join(f"| {symbol(number)} | {energy:.6f} |" for number, energy in pairs)


def _errors(errors: Errors) -> str:
    """A line for the validation set, by which the parameters were chosen, and one for every test file."""
    if not errors:
        return "Not measured: the training has not come to its end. `metrics.jsonl` in its run directory has the errors of every epoch."
    names = _names([path for path in errors if path != "valid"]) | {"valid": "validation"}
    shown = [key for key in _UNITS if any(key in values for values in errors.values())]
    lines = [
        "| data | configurations | " + " | ".join(f"{_UNITS[key][0]}, {_UNITS[key][1]}" for key in shown) + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for path, values in errors.items():
        cells = [f"{values[key]:.2f}" if key in values else "-" for key in shown]
        lines.append(f"| {_in_a_cell(names[path])} | {values['num_configs']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """The name of each file, or its whole path if another file has the same name."""
    names = [Path(path).name for path in paths]
    return {path: f"`{name if names.count(name) == 1 else path}`" for path, name in zip(paths, names, strict=True)}


def _in_a_cell(text: str) -> str:
    """The text on one line, with escaped bars, so that it fits a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
