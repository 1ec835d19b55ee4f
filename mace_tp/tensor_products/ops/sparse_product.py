"""A product with a constant, sparse coupling tensor, one component after another."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def sparse_product(coupling: np.ndarray, left: Sequence[jax.Array], right: Sequence[jax.Array]) -> list[jax.Array]:
    """Σ_ij coupling[i, j, m] left[i] right[j] for every m, as sums over the entries that are not zero.

    Reverse derivatives of any order are again such products; forward mode is not defined. jax traces each product of a shape once in a
    program, instead of differentiating thousands of small operations.

    Args:
        coupling: [left components, right components, output components], float64.
        left: components [...], all of one shape.
        right: components [...]; the same object as `left` for a square, which takes each product of two components once.
    """
    if left is right:
        return list(_square(_Coupling(coupling + coupling.transpose(1, 0, 2)), tuple(left)))
    return list(_product(_Coupling(coupling), tuple(left), tuple(right)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Coupling:
    """A hashable tensor."""

    tensor: np.ndarray

    @functools.cached_property
    def _key(self) -> tuple:
        return self.tensor.shape, self.tensor.tobytes()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Coupling) and self._key == other._key


_Components = tuple[jax.Array, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(coupling: _Coupling, left: _Components, right: _Components) -> _Components:
    return _sums(coupling, left, right)


def _product_forward(coupling: _Coupling, left: _Components, right: _Components) -> tuple[_Components, tuple]:
    return _product(coupling, left, right), (left, right)


def _product_backward(coupling: _Coupling, factors: tuple, cotangents: _Components) -> tuple[_Components, _Components]:
    left, right = factors
    to_left, to_right = coupling.tensor.transpose(2, 1, 0), coupling.tensor.transpose(2, 0, 1)
    return _product(_Coupling(to_left), cotangents, right), _product(_Coupling(to_right), cotangents, left)


_product.defvjp(_product_forward, _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _square(coupling: _Coupling, factor: _Components) -> _Components:
    """Half of the product of `factor` with itself, for a coupling that is symmetric in the two."""
    upper = np.moveaxis(np.triu(np.moveaxis(coupling.tensor, 2, 0)), 0, 2)
    return _sums(_Coupling(upper / (1 + np.eye(len(factor)))[:, :, None]), factor, factor)


def _square_forward(coupling: _Coupling, factor: _Components) -> tuple[_Components, _Components]:
    return _square(coupling, factor), factor


def _square_backward(coupling: _Coupling, factor: _Components, cotangents: _Components) -> tuple[_Components]:
    return (_product(_Coupling(coupling.tensor.transpose(2, 1, 0)), cotangents, factor),)


_square.defvjp(_square_forward, _square_backward)


@functools.partial(jax.jit, static_argnums=0)
def _sums(coupling: _Coupling, left: _Components, right: _Components) -> _Components:
    """The sums; entries of equal size share one multiplication, and entries of size one need none."""
    outputs = []
    for entries in np.moveaxis(coupling.tensor, 2, 0):
        sizes = np.abs(entries)
        classes = sizes.round(12)  # sizes are equal up to rounding
        terms = []
        for rounded in np.unique(classes[classes > 0]):
            where = np.argwhere(classes == rounded)
            products = [left[i] * right[j] if entries[i, j] > 0 else -left[i] * right[j] for i, j in where]
            size = sizes[tuple(where[0])].item()
            terms.append(total(products) if rounded == 1 else size * total(products))
        outputs.append(total(terms) if terms else jnp.zeros_like(left[0]))
    return tuple(outputs)


def total(terms: Sequence[jax.Array]) -> jax.Array:
    """Sum of at least one term, without a zero to start from."""
    return functools.reduce(jnp.add, terms)
