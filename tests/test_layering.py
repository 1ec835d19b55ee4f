"""Imports go one way: to the same row of rooms or to one below, and third-party packages only where they belong.

The rows are those of design.md, with the files that have come since. A file of a new name has no row until it gets one here.
"""

import ast
import dataclasses
import pathlib
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "mace_tp"

ROWS = [
    {
        "cache",
        "compilation",
        "covalent_radii",
        "edge_blocks",
        "errors",
        "environment",
        "dataset_statistics",
        "exported",
        "exported_inputs",
        "forked",
        "graph",
        "kernel",
        "leaving",
        "radial",
        "repulsion",
    },
    {"tensor_products"},
    {"nn"},
    {"compiled", "model", "forces", "potential"},
    {"data"},
    {"loss", "metrics"},
    {"training", "compilation_display", "loggers", "wandb_logger", "breakdown", "plots", "plot_labels", "error_plots", "parity"},
    {"config", "product_notation"},
    {
        "autotune",
        "calculator",
        "benchmark",
        "comparison",
        "comparison_plots",
        "comparison_table",
        "config_ranges",
        "conservativity",
        "coupling_plots",
        "datasets",
        "dry_run",
        "dynamics",
        "evaluation",
        "export",
        "expressivity",
        "inspection",
        "integrations",
        "model_card",
        "origin",
        "preparation",
        "results",
        "retiming",
        "run",
        "run_config",
        "saved_model",
        "session",
        "simulation",
        "simulation_plots",
        "step_times",
        "structure_field",
        "warm_start",
    },
    {"cli", "__main__", "__init__", "__version__"},
]

# Rooms or files that may import each third-party package; jax and numpy may be used anywhere.
THIRD_PARTY = {
    "e3nn_jax": {
        "tensor_products",
        "nn",
        "model",
        "forces",
        "benchmark.cases",
        "compiled",
        "config_ranges",
        "coupling_plots",
        "expressivity",
        "product_notation",
        "cli.expressivity",
        "integrations.mace_torch_layout",
    },
    "flax": {"graph", "nn", "model", "forces", "potential", "loss", "metrics", "training", "saved_model", "integrations.jax_md"},
    "optax": {"training", "preparation"},
    "orbax": {"training.checkpoint"},
    "ase": {
        "calculator",
        "cli.md",
        "data.ase_files",
        "data.conversion",
        "simulation",
        "covalent_radii",
        "data.masses",
        "data.readable",
        "data.readers",
        "data.writers",
    },
    "matscipy": {"data.neighbors"},
    "scipy": {"data.neighbors", "data.validation", "tensor_products.sphere"},
    "safetensors": {"saved_model"},
    "matplotlib": {"plots", "plot_labels", "error_plots", "benchmark.plots", "comparison_plots", "coupling_plots", "simulation_plots"},
    "rich": {"cli.md", "compilation_display", "loggers"},
    "wandb": {"wandb_logger"},
    "cuequivariance": {"tensor_products.cuequivariance"},
    "cuequivariance_jax": {"tensor_products.cuequivariance"},
    "cuequivariance_ops_jax": {"tensor_products.cuequivariance"},
    "h5py": {"data.conversion"},
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "yaml": {"cli", "data.open_sets", "comparison", "run_config"},
}
ANYWHERE = {"jax", "numpy"}
# Imported inside a function only: slow to load, and off by default.
LAZY = {"h5py", "wandb", "cuequivariance", "cuequivariance_jax", "cuequivariance_ops_jax"}


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported module, by its full name."""

    module: str
    is_at_top: bool


def _name(path: pathlib.Path) -> str:
    """Dotted name below the package, such as `data.readers`; a package's own file has the package's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def _imports(source: str) -> set[Import]:
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {Import(alias.name, id(node) not in inside) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from mace_tp import plots` imports a module too.
            names = [f"mace_tp.{alias.name}" for alias in node.names] if node.module == "mace_tp" else [node.module]
            found |= {Import(name, id(node) not in inside) for name in names}
    return found


def _row(module: str) -> int:
    """Row of a module of ours by its name below the package."""
    rows = [i for i, rooms in enumerate(ROWS) if module.split(".")[0] in rooms]
    assert len(rows) == 1, f"{module} has no row: give it one in {pathlib.Path(__file__).name}"
    return rows[0]


def _violations(name: str, source: str) -> list[str]:
    """What a module imports that it may not."""
    found = []
    for imported in _imports(source):
        package, _, rest = imported.module.partition(".")
        if package == "mace_tp":
            if _row(rest) > _row(name):
                found.append(f"{name} (row {_row(name)}) imports {rest} (row {_row(rest)})")
        elif package not in sys.stdlib_module_names | ANYWHERE:
            allowed = THIRD_PARTY.get(package, set())
            if not {name, name.split(".")[0]} & allowed:
                found.append(f"{name} imports {package}, which is allowed in: {', '.join(sorted(allowed)) or 'nothing'}")
            if package in LAZY and imported.is_at_top:
                found.append(f"{name} imports {package} at its top")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=_name)
def test_module_imports_only_what_its_room_may(path):
    assert not _violations(_name(path), path.read_text())


@pytest.mark.parametrize(
    "name, source",
    [
        ("radial", "from mace_tp.nn.linear import Linear"),
        ("radial", "from mace_tp import model"),
        ("data.readers", "import mace_tp.training.loss"),
        ("loss", "def f():\n    from mace_tp.training.step import Control"),
        ("run", "import hydra"),
        ("data.graphs", "import ase.io"),
        ("training.loop", "import orbax.checkpoint"),
        ("nn.linear", "import torch"),
        ("wandb_logger", "import wandb"),
        ("config", "import scripts"),
    ],
)
def test_rule_sees_what_is_forbidden(name, source):
    assert len(_violations(name, source)) == 1


@pytest.mark.parametrize(
    "name, source",
    [
        ("nn.linear", "from mace_tp.nn.radial import safe_norm"),
        ("data.readers", "import ase.io, json"),
        ("data.splits", "from mace_tp.data.readers import read"),
        ("cli.train", "import hydra"),
        ("wandb_logger", "def f():\n    import wandb"),
        ("training.step", "import optax"),
    ],
)
def test_rule_lets_pass_what_is_allowed(name, source):
    assert not _violations(name, source)


def test_module_without_a_row_is_reported():
    with pytest.raises(AssertionError, match="helpers has no row"):
        _violations("radial", "import mace_tp.helpers")
