"""The names of `import mace_tp`: the same for the interpreter and for type checkers, and imported on first use."""

import ast
import pathlib
import subprocess
import sys

import mace_tp

PACKAGE = pathlib.Path(mace_tp.__file__).parent


def _typed_names() -> dict[str, tuple[str, str]]:
    """{name: (module, name in it)} of the block that only type checkers read."""
    [block] = [node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    imports = [(node.module, alias) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert all(alias.asname for _, alias in imports), "a re-export has the form `import name as name`"
    return {alias.asname: (module.removeprefix("mace_tp."), alias.name) for module, alias in imports}


def test_type_checkers_and_the_interpreter_see_the_same_names():
    assert _typed_names() == mace_tp._PUBLIC
    assert set(mace_tp.__all__) == {*mace_tp._PUBLIC, "__version__"}
    assert (PACKAGE / "py.typed").exists()


def test_load_model_is_the_earlier_name_of_load():
    assert mace_tp.load is mace_tp.load_model


def test_an_import_loads_neither_jax_nor_ase():
    code = "import sys, mace_tp; print([name for name in ('jax', 'ase', 'flax') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
