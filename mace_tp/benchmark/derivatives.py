"""The programs in which a tensor product occurs: a value, an energy with forces, the gradient of a training step.

Energies and losses are sums over all components in the end; the sums are left away here, and their derivatives, with which the
chain rule begins, are given as arguments.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.benchmark.cases import Case

Program = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function to compile and its arguments."""


def value(case: Case) -> Program:
    """The product itself."""
    return case.function, case.arguments


def forces(case: Case) -> Program:
    """The product, and the gradient of what is linear in it with respect to all that depends on positions: the first derivative."""

    def product_and_gradient(probe: jax.Array, *arguments: Any) -> tuple[jax.Array, Any]:
        moved = tuple(arguments[i] for i in case.moved)
        product, pull_back = jax.vjp(lambda *moved: case.function(*_replaced(arguments, case.moved, moved)), *moved)
        return product, pull_back(probe)

    return product_and_gradient, (_probe(case), *case.arguments)


def training(case: Case) -> Program:
    """The gradient of a loss of energy and forces with respect to all that depends on parameters: the second derivative."""
    product_and_gradient, (probe, *_) = forces(case)

    def gradient(probe: jax.Array, directions: tuple[Any, ...], *arguments: Any) -> tuple[Any, ...]:
        trained = tuple(arguments[i] for i in case.trained)
        _, pull_back = jax.vjp(lambda *trained: product_and_gradient(probe, *_replaced(arguments, case.trained, trained)), *trained)
        return pull_back((probe, directions))

    return gradient, (probe, tuple(case.arguments[i] for i in case.moved), *case.arguments)


def _replaced(arguments: tuple[Any, ...], positions: tuple[int, ...], values: tuple[Any, ...]) -> list[Any]:
    replaced = list(arguments)
    for position, new in zip(positions, values, strict=True):
        replaced[position] = new
    return replaced


def _probe(case: Case) -> jax.Array:
    """Derivative of an energy with respect to the product."""
    output = jax.eval_shape(case.function, *case.arguments)
    return jnp.asarray(np.random.default_rng(1).normal(size=output.shape), output.dtype)


DERIVATIVES: dict[str, Callable[[Case], Program]] = {"value": value, "forces": forces, "training": training}
