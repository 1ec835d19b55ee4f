"""The model card: what a person who finds a trained model should know, as Markdown beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mace_tp.config import Config
from mace_tp.data.elements import symbol
from mace_tp.saved_model import Model

_UNITS = {
    "force_rmse": ("force RMSE", "meV/Å"),
    "force_mae": ("force MAE", "meV/Å"),
    "energy_rmse": ("energy RMSE", "meV/atom"),
    "energy_rmse_per_config": ("energy RMSE", "meV"),
    "stress_rmse": ("stress RMSE", "meV/Å³"),
}


def write_card(folder: Path, model: Model, config: Config, results: Mapping[str, Any]) -> None:
    """Write `README.md` into a model's folder.

    Args:
        folder: of the model.
        model: what is in it.
        config: of the training.
        results: what `results.json` holds.
    """
    (folder / "README.md").write_text(_card(model, config, results), encoding="utf-8")


def _card(model: Model, config: Config, results: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(model, config, results).items())
    return f"""# A MACE interatomic potential

Trained with mace-tp. Energies are in eV, lengths in Å, forces in eV/Å, stress in eV/Å³ with ASE's sign.

| | |
|---|---|
{rows}

## Elements

| element | E0, eV |
|---|---|
{_energies(model)}

It knows no other element. The energy of a structure is the sum of its E0s and what the model adds.

## Errors

{_errors(results)}

## Use

```python
import mace_tp

atoms.calc = mace_tp.Calculator("folder/of/this/file")  # atoms: of ASE
```
"""


def _facts(model: Model, config: Config, results: Mapping[str, Any]) -> dict[str, str]:
    architecture, environment, products = model.architecture, results["environment"], model.tensor_product
    seen, valid = results["data"]["train_and_valid"], results["data"]["valid"]["configurations"]
    shape = f"{architecture.num_channels} channels × ({architecture.hidden_irreps}), {architecture.num_interactions} layers"
    trained = f"{results['epochs']} epochs, {results['total_seconds'] / 60:.1f} min on {environment['device']}"
    return {
        "level of theory of the labels": config.data.theory or "not given (`data.theory=...` of the training writes it here)",
        "data": f"{_files(config.data.train)}: {seen['configurations']} configurations, {valid} of them for validation",
        "SHA-256 of what was read of them": f"`{seen['sha256']}`",
        "tensor product": f"{_site(products.interaction)} in the interaction, {_site(products.product_basis)} in the product basis",
        "shape": f"{shape}, l_max {architecture.l_max}, correlation {architecture.correlation}",
        "cutoff": f"{architecture.cutoff:g} Å",
        "forces": _FORCES[architecture.forces],
        "parameters": f"{model.num_parameters:,} in {environment['dtype']}",
        "trained": f"{trained}; the parameters are those of epoch {results['best_epoch']}",
        "versions": _versions(environment),
    }


_FORCES = {
    "gradient": "the gradient of the energy",
    "direct": "read from the features; no energy has them as its gradient, and there is no stress",
}


def _files(paths: str | list[str]) -> str:
    names = [paths] if isinstance(paths, str) else paths
    return ", ".join(f"`{Path(name).name}`" for name in names)


def _site(site: Any) -> str:
    options = {"name": site} if isinstance(site, str) else dict(site)
    name = options.pop("name")
    return " ".join([f"`{name}`", *(f"{option}={value}" for option, value in options.items())])


def _versions(environment: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {environment[name]}" for name in ("mace_tp", "commit", "jax", "jaxlib") if name in environment)


def _energies(model: Model) -> str:
    statistics = model.statistics
    pairs = zip(statistics.atomic_numbers, statistics.atomic_energies, strict=True)
    return "\n".join(f"| {symbol(number)} | {energy:.6f} |" for number, energy in pairs)


def _errors(results: Mapping[str, Any]) -> str:
    """A line for the validation set, by which the parameters were chosen, and for every test file."""
    sets = {"validation": results["valid"]} | {f"`{Path(path).name}`": values for path, values in results["test"].items()}
    shown = [key for key in _UNITS if any(key in values for values in sets.values())]
    lines = [
        "| data | configurations | " + " | ".join(f"{_UNITS[key][0]}, {_UNITS[key][1]}" for key in shown) + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name, values in sets.items():
        cells = [f"{values[key]:.2f}" if key in values else "-" for key in shown]
        lines.append(f"| {name} | {values['num_configs']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
