"""The programs in which a model uses a tensor product: the value, the value with forces, and a training step.

Each program returns everything that the previous one returns, because a model needs all of it and XLA removes unused computations.

In a model, energies and losses are sums over all components. These sums are left out here; their derivatives, with which the chain rule
starts, are arguments of the programs.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.benchmark.cases import Operation

Program = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function to compile and its arguments."""


def value(operation: Operation) -> Program:
    """The product itself."""
    return operation.function, operation.arguments


def forces(operation: Operation) -> Program:
    """The product, and the gradient of a linear function of the product with respect to everything that depends on positions."""

    def product_and_gradient(probe: jax.Array, *arguments: Any) -> tuple[jax.Array, Any]:
        moved = tuple(arguments[i] for i in operation.moved)
        product, pull_back = jax.vjp(lambda *moved: operation.function(*_replaced(arguments, operation.moved, moved)), *moved)
        return product, pull_back(probe)

    return product_and_gradient, (_probe(operation), *operation.arguments)


def training(operation: Operation) -> Program:
    """The product, its forces, and the gradient of a linear function of both with respect to everything that depends on parameters."""
    product_and_gradient, (probe, *_) = forces(operation)

    def step(probe: jax.Array, directions: tuple[Any, ...], *arguments: Any) -> tuple[Any, tuple[Any, ...]]:
        def found_from(*trained: Any) -> tuple[jax.Array, Any]:
            return product_and_gradient(probe, *_replaced(arguments, operation.trained, trained))

        found, pull_back = jax.vjp(found_from, *(arguments[i] for i in operation.trained))
        return found, pull_back((probe, directions))

    return step, (probe, tuple(operation.arguments[i] for i in operation.moved), *operation.arguments)


def _replaced(arguments: tuple[Any, ...], positions: tuple[int, ...], values: tuple[Any, ...]) -> list[Any]:
    replaced = list(arguments)
    for position, new in zip(positions, values, strict=True):
        replaced[position] = new
    return replaced


def _probe(operation: Operation) -> jax.Array:
    """Return the derivative of an energy with respect to the product."""
    output = jax.eval_shape(operation.function, *operation.arguments)
    return jnp.asarray(np.random.default_rng(1).normal(size=output.shape), output.dtype)


DERIVATIVES: dict[str, Callable[[Operation], Program]] = {"value": value, "forces": forces, "training": training}
