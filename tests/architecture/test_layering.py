"""Imports between rooms go strictly one way, those inside a room have no cycle, and third-party packages stay where they belong.

A file or folder of a new name has no row until it gets one here.
"""

import ast
import dataclasses
import graphlib
import pathlib
import sys
from collections.abc import Mapping

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "mace_tp"

# A room imports from rows above it only; two rooms of one row never meet.
ROWS = [
    {"errors", "__version__"},
    {"runtime", "graph", "edge_blocks", "ranges", "run_directory", "plotting"},
    {"data", "kernels"},
    {"tensor_products"},
    {"nn"},
    {"model"},
    {"config", "evaluation", "simulation", "benchmark"},
    {"training"},
    {"cli"},
    {"__init__", "__main__"},
]

# Rooms or files that may import each third-party package; jax, numpy and jaxtyping may be used anywhere.
THIRD_PARTY = {
    "e3nn_jax": {"tensor_products", "nn", "model", "benchmark", "config", "cli.expressivity"},
    "flax": {"graph", "nn", "model", "evaluation.metrics", "evaluation.batches", "training", "simulation.jax_md"},
    "optax": {"training"},
    "orbax": {"training.checkpoint"},
    "ase": {"data", "model.potential", "simulation", "cli.md"},
    "matscipy": {"data.neighbors"},
    "scipy": {"data.neighbors", "data.validation", "tensor_products.algebra.sphere"},
    "safetensors": {"model.saved_model"},
    "matplotlib": {
        "plotting",
        "benchmark.coupling_plots",
        "benchmark.plots",
        "evaluation.comparison_plots",
        "evaluation.error_plots",
        "evaluation.parity_figures",
        "simulation.plots",
        "training.plots",
    },
    "rich": {"training.loggers", "training.terminal_bar", "cli.compilation_display", "cli.md"},
    "wandb": {"training.wandb_logger"},
    "cuequivariance": {"tensor_products.cuequivariance"},
    "cuequivariance_jax": {"tensor_products.cuequivariance"},
    "cuequivariance_ops_jax": {"tensor_products.cuequivariance"},
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "yaml": {"cli", "run_directory"},
}
ANYWHERE = {"jax", "numpy", "jaxtyping"}
# Constants, which load nothing else.
MODULES_ANYWHERE = {"ase.data"}
# Imported inside a function only: slow to load, and off by default.
LAZY = {"wandb", "cuequivariance", "cuequivariance_jax", "cuequivariance_ops_jax"}


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


def _files_imported(name: str, sources: Mapping[str, str]) -> set[str]:
    """Names of our files that a file imports anywhere, also inside functions, and also as `from mace_tp.room import module`."""
    found = set()
    for node in ast.walk(ast.parse(sources[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module.removeprefix("mace_tp.") for module in found if module.startswith("mace_tp.")} & set(sources) - {name}


def _row(module: str) -> int:
    """Row of a module of ours by its name below the package."""
    rows = [i for i, rooms in enumerate(ROWS) if module.split(".")[0] in rooms]
    assert len(rows) == 1, f"{module} has no row: give it one in {pathlib.Path(__file__).name}"
    return rows[0]


def _violations(name: str, source: str) -> list[str]:
    """Return the forbidden imports of a module."""
    found = []
    for imported in _imports(source):
        package, _, rest = imported.module.partition(".")
        if package == "mace_tp":
            is_same_room = rest.split(".")[0] == name.split(".")[0]
            if not is_same_room and _row(rest) >= _row(name):
                found.append(f"{name} (row {_row(name)}) imports {rest} (row {_row(rest)})")
        elif package not in sys.stdlib_module_names | ANYWHERE and imported.module not in MODULES_ANYWHERE:
            allowed = THIRD_PARTY.get(package, set())
            if not {name, name.split(".")[0]} & allowed:
                found.append(f"{name} imports {package}, which is allowed in: {', '.join(sorted(allowed)) or 'nothing'}")
            if package in LAZY and imported.is_at_top:
                found.append(f"{name} imports {package} at its top")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=_name)
def test_module_imports_only_what_its_room_may(path):
    assert not _violations(_name(path), path.read_text())


def _cycle(sources: dict[str, str]) -> list[str]:
    """The first cycle of imports between files {name: source}; empty if there is none."""
    try:
        graphlib.TopologicalSorter({name: _files_imported(name, sources) for name in sources}).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_files_import_each_other_without_cycles():
    assert not _cycle({_name(path): path.read_text() for path in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize(
    "source",
    [
        "from mace_tp.data.b import f",
        "from mace_tp.data import b",
        "import mace_tp.data.b",
        "def g():\n    from mace_tp.data.b import f",
        "if TYPE_CHECKING:\n    import mace_tp.data.b",
    ],
)
def test_cycles_are_seen_wherever_the_import_is(source):
    assert _cycle({"data.a": source, "data.b": "from mace_tp.data.a import g"})
    assert not _cycle({"data.a": source, "data.b": "import numpy"})


def test_few_modules_are_outside_of_rooms():
    assert len([path for path in PACKAGE.glob("*.py") if not path.name.startswith("__")]) <= 8


@pytest.mark.parametrize(
    "name, source",
    [
        ("kernels.linear", "from mace_tp.nn.linear import Linear"),
        ("nn.radial", "from mace_tp import model"),
        ("data.readers", "import mace_tp.kernels.linear"),
        ("runtime.cache", "from mace_tp.graph import GraphBatch"),
        ("data.readers", "import mace_tp.training.loss"),
        ("evaluation.metrics", "def f():\n    from mace_tp.training.step import Control"),
        ("training.train", "import hydra"),
        ("model.mace", "import ase.io"),
        ("training.fit", "import orbax.checkpoint"),
        ("nn.linear", "import torch"),
        ("training.wandb_logger", "import wandb"),
        ("config", "import scripts"),
    ],
)
def test_rule_sees_what_is_forbidden(name, source):
    assert len(_violations(name, source)) == 1


@pytest.mark.parametrize(
    "name, source",
    [
        ("nn.linear", "from mace_tp.nn.radial import safe_norm"),
        ("nn.embedding", "from ase.data import covalent_radii"),
        ("data.readers", "import ase.io, json"),
        ("data.splits", "from mace_tp.data.readers import read"),
        ("cli.train", "import hydra"),
        ("training.wandb_logger", "def f():\n    import wandb"),
        ("training.step", "import optax"),
        ("nn.repulsion", "from ase.data import covalent_radii"),
    ],
)
def test_rule_lets_pass_what_is_allowed(name, source):
    assert not _violations(name, source)


def test_module_without_a_row_is_reported():
    with pytest.raises(AssertionError, match="helpers has no row"):
        _violations("nn.radial", "import mace_tp.helpers")
