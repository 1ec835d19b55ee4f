"""From the command to the gradient a reader follows four functions, each of which calls the next one by its name.

The test counts the functions of this package that the reader opens. A function that is defined within another one belongs to it,
such as the job in `cli.train.main`, which Hydra calls. `fit` calls the compiled step that it is given; jax and `CompiledStep`, which run
`train_step`, and Hydra are libraries on this way and not counted.
"""

import ast
import itertools
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "mace_tp"

WAY = ["cli.train.main", "training.train.train", "training.fit.fit", "training.step.make_train_step.train_step"]


def _function(name: str) -> tuple[ast.Module, ast.FunctionDef]:
    """The module of a function, and the function, by names such as `training.step.make_train_step.train_step`."""
    parts = name.split(".")
    length = next(i for i in range(1, len(parts)) if PACKAGE.joinpath(*parts[:i]).with_suffix(".py").exists())
    module = ast.parse(PACKAGE.joinpath(*parts[:length]).with_suffix(".py").read_text())
    found = module
    for part in parts[length:]:
        found = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == part)
    return module, found


def _calls(name: str) -> set[str]:
    """Full names of what a function calls; a function that it was given is called by the name of its argument."""
    module, function = _function(name)
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}".removeprefix("mace_tp.")
        for node in module.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    called = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    return {imported.get(written, written) for written in called}


def test_the_way_has_four_functions():
    assert len(WAY) == 4
    assert "jax.value_and_grad" in _calls(WAY[-1])


@pytest.mark.parametrize(("caller", "called"), itertools.pairwise(WAY))
def test_each_function_on_the_way_calls_the_next(caller, called):
    _, function = _function(caller)
    is_given = called.rpartition(".")[2] in {argument.arg for argument in function.args.args}

    assert (called.rpartition(".")[2] if is_given else called) in _calls(caller)


def test_the_step_that_the_loop_is_given_is_the_one_with_the_gradient():
    _, train = _function("training.train.train")
    (fit,) = (node for node in ast.walk(train) if isinstance(node, ast.Call) and ast.unparse(node.func) == "fit")
    _, prepare = _function("training.preparation.prepare")
    (made,) = (node.value for node in ast.walk(prepare) if isinstance(node, ast.keyword) and node.arg == "train_step")

    assert "setup.train_step" in map(ast.unparse, fit.args) and ast.unparse(made).startswith("make_train_step(")


def test_a_function_in_between_would_be_seen():
    assert "training.fit.fit" not in _calls("cli.train.main")
