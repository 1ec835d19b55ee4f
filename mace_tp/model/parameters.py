"""The parameters of a model as a tree of arrays, and their names."""

from typing import Any

import jax
from flax import nnx

Params = nnx.State
"""A tree of arrays: the `nnx.Param`s of a module."""


def parameter_name(path: tuple) -> str:
    """The dotted name of a leaf of the parameters, such as `layers.0.interaction.linear.weights.1o`, from its path in the tree."""
    return jax.tree_util.keystr(path[:-1] if path and _is_value(path[-1]) else path, simple=True, separator=".")


def _is_value(key: Any) -> bool:
    """Whether a step of a path goes from an nnx variable to its array; only the last one does."""
    return isinstance(key, jax.tree_util.GetAttrKey) or str(key) == ".value"


def named_parameters(params: Params) -> dict[str, Any]:
    """The leaves by their dotted names, in the order of the tree."""
    return {parameter_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]}
