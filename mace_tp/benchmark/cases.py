"""The cases that are measured: a tensor product in a setting, with arguments of the requested sizes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.errors import InputError
from mace_tp.graph import GraphBatch, edge_vectors
from mace_tp.nn.embedding import edge_harmonics
from mace_tp.tensor_products.algebra.analysis import (
    basis_couplings,
    basis_dof,
    bilinear_dof,
    bilinear_paths,
    interaction_dof,
    interaction_paths,
)
from mace_tp.tensor_products.base import TensorProduct

_NUM_ELEMENTS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Sizes:
    """How large the arrays of a case are."""

    batch: int  # pairs of features that a bilinear map multiplies
    channels: int  # at both sites of the model
    parity: str  # outputs of a bilinear map: `natural`, or `all`, which includes pseudo-tensors
    hidden_irreps: str  # node features of the interaction, outputs of the product basis
    correlation: int  # of the product basis
    graphs: GraphBatch  # for both sites of the model
    cutoff: float  # of the graphs, Å
    dtype: jnp.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """A function of arrays, and the arguments that depend on positions and on parameters."""

    function: Callable[..., jax.Array]
    arguments: tuple[Any, ...]
    moved: tuple[int, ...]  # positions of the arguments that depend on atomic positions: forces need their gradient
    trained: tuple[int, ...]  # positions of the arguments that depend on parameters: a training step needs their gradient


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A product's operation in a setting, with its counts."""

    operation: Operation
    irreps: str
    num_entries: int  # pairs of a bilinear map; edges or nodes of a site, times channels
    num_paths: int
    dof: int


def make_case(setting: str, product: TensorProduct, l_max: int, sizes: Sizes) -> Case:
    """Make the case of a product in one of SETTINGS.

    Raises:
        InputError: the product cannot do this; the message says why.
    """
    return SETTINGS[setting](product, l_max, sizes)


def _siso(product: TensorProduct, l_max: int, sizes: Sizes) -> Case:
    harmonic = _harmonic(l_max)
    keep = harmonic if sizes.parity == "natural" else harmonic + _pseudo(harmonic)
    return _bilinear(product, harmonic, keep, sizes)


def _simo(product: TensorProduct, l_max: int, sizes: Sizes) -> Case:
    return _bilinear(product, _harmonic(l_max), _outputs(l_max, sizes), sizes)


def _mimo(product: TensorProduct, l_max: int, sizes: Sizes) -> Case:
    return _bilinear(product, e3nn.s2_irreps(l_max), _outputs(l_max, sizes), sizes)


def _harmonic(degree: int) -> e3nn.Irreps:
    return e3nn.Irreps([(1, (degree, (-1) ** degree))])


def _outputs(l_max: int, sizes: Sizes) -> e3nn.Irreps:
    natural = e3nn.s2_irreps(2 * l_max)
    return natural if sizes.parity == "natural" else natural + _pseudo(natural)


def _pseudo(harmonics: e3nn.Irreps) -> e3nn.Irreps:
    return e3nn.Irreps([(1, (irrep.ir.l, -irrep.ir.p)) for irrep in harmonics])


def _bilinear(product: TensorProduct, irreps: e3nn.Irreps, keep: e3nn.Irreps, sizes: Sizes) -> Case:
    plan = product.bilinear(irreps, irreps, keep)
    rng = np.random.default_rng(0)
    return Case(
        Operation(plan.__call__, tuple(_normal(rng, (irreps.dim, sizes.batch), sizes) for _ in range(2)), moved=(0, 1), trained=(0, 1)),
        irreps=f"{irreps} × {irreps} → {plan.irreps_out}",
        num_entries=sizes.batch,
        num_paths=len(bilinear_paths(plan)),
        dof=bilinear_dof(plan),
    )


def _interaction(product: TensorProduct, l_max: int, sizes: Sizes) -> Case:
    hidden, harmonics, batch = e3nn.Irreps(sizes.hidden_irreps), e3nn.s2_irreps(l_max), sizes.graphs
    plan = product.interaction(hidden, harmonics, harmonics)
    rng, dtype = np.random.default_rng(0), sizes.dtype
    is_real = (batch.pair_edges[:, 0] != batch.pair_edges[:, 1]).astype(dtype)[:, None, None]
    weights = is_real * _normal(rng, (batch.num_pairs, plan.num_weights, sizes.channels), sizes)
    features = _normal(rng, (hidden.dim, batch.num_nodes, sizes.channels), sizes)
    attributes = edge_harmonics(edge_vectors(batch, sizes.cutoff), l_max)
    return Case(
        Operation(plan.__call__, (weights, features, attributes, batch), moved=(0, 1, 2), trained=(0, 1)),
        irreps=f"{hidden} × {harmonics} → {plan.irreps_out}",
        num_entries=int(batch.edge_mask.sum()) * sizes.channels,
        num_paths=len(interaction_paths(plan)),
        dof=interaction_dof(plan),
    )


def _product_basis(product: TensorProduct, l_max: int, sizes: Sizes) -> Case:
    hidden, harmonics, num_nodes = e3nn.Irreps(sizes.hidden_irreps), e3nn.s2_irreps(l_max), sizes.graphs.num_nodes
    plan = product.product_basis(harmonics, hidden, sizes.correlation)
    rng = np.random.default_rng(0)
    weights = _normal(rng, (plan.num_weights, _NUM_ELEMENTS, sizes.channels), sizes)
    features = _normal(rng, (harmonics.dim, num_nodes, sizes.channels), sizes)
    species = jnp.asarray(rng.integers(0, _NUM_ELEMENTS, num_nodes))
    return Case(
        Operation(plan.__call__, (weights, features, species), moved=(1,), trained=(0, 1)),
        irreps=f"{harmonics}, order ≤ {sizes.correlation} → {hidden}",
        num_entries=int(sizes.graphs.node_mask.sum()) * sizes.channels,
        num_paths=len(basis_couplings(plan)),
        dof=basis_dof(plan),
    )


def _normal(rng: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape), sizes.dtype)


SETTINGS: dict[str, Callable[[TensorProduct, int, Sizes], Case]] = {
    "SISO": _siso,
    "SIMO": _simo,
    "MIMO": _mimo,
    "interaction": _interaction,
    "product_basis": _product_basis,
}
"""SISO: L × L → L. SIMO: L × L → all outputs. MIMO: 0..L × 0..L → all outputs (Xie et al. 2025). The last two are the sites of MACE."""


def require_setting(name: str) -> None:
    """Raise an InputError if there is no such setting."""
    if name not in SETTINGS:
        raise InputError(f"--settings {name}: no such setting; valid: {', '.join(SETTINGS)}")
