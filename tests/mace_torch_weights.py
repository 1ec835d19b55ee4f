"""The parameters of ACEsuit's `ScaleShiftMACE` under the names and in the layout of our model."""

import math
from collections.abc import Mapping

import e3nn_jax as e3nn
import numpy as np

from mace_tp.model import Architecture
from mace_tp.tensor_products.symmetric_basis import SymmetricBasis, symmetric_basis

Path = tuple[str | int, ...]


def read_weights(arrays: Mapping[str, np.ndarray], architecture: Architecture, num_species: int) -> dict[Path, np.ndarray]:
    """Our parameters by their path in the nnx tree.

    Args:
        arrays: parameters and U matrices by their names in the torch state dict.
        architecture: shape of the model.
        num_species: number of its elements.
    """
    channels, num_layers = architecture.num_channels, architecture.num_interactions
    weights: dict[Path, np.ndarray] = {("embedding", "weight"): arrays["node_embedding.linear.weight"].reshape(num_species, channels)}
    for layer in range(num_layers):
        weights |= _interaction(arrays, architecture, layer)
        weights |= _self_connection(arrays, architecture, layer, num_species)
        weights |= _product_basis(arrays, architecture, layer)
        name = f"readouts.{layer}"
        if layer < num_layers - 1:
            weights["readouts", layer, "weight"] = arrays[f"{name}.linear.weight"]
        else:
            weights["readouts", layer, "hidden"] = arrays[f"{name}.linear_1.weight"].reshape(channels, architecture.readout_mlp)
            weights["readouts", layer, "output"] = arrays[f"{name}.linear_2.weight"]
    return weights


def symmetric_part(u_matrix: np.ndarray, basis: SymmetricBasis) -> np.ndarray:
    """Columns of a U matrix [2L+1, i1, ..., iν, columns] as polynomials: coefficients [columns, 2L+1, monomials of the basis].

    Raises:
        ValueError: a column has a monomial that the basis lacks.
    """
    polynomials: dict[tuple[int, ...], np.ndarray] = {}
    for factors in np.argwhere(np.abs(u_matrix).max(axis=(0, -1)) > 1e-12):
        monomial = tuple(sorted(factors.tolist()))
        polynomials[monomial] = polynomials.get(monomial, 0) + u_matrix[(slice(None), *factors)].T
    # Antisymmetric parts of a column cancel in the sum.
    polynomials = {monomial: values for monomial, values in polynomials.items() if np.abs(values).max() > 1e-12}
    known = [tuple(monomial) for monomial in basis.monomials.tolist()]
    if lacking := sorted(set(polynomials) - set(known)):
        raise ValueError(f"the basis has no monomial {lacking[0]}")
    none = np.zeros((u_matrix.shape[-1], u_matrix.shape[0]))
    return np.stack([polynomials.get(monomial, none) for monomial in known], axis=-1)


def coordinates(polynomials: np.ndarray, basis: SymmetricBasis) -> np.ndarray:
    """R [couplings, columns]: coordinates of polynomials [columns, 2L+1, monomials] in the reduced basis, of the QR sym(U) = Q R."""
    orderings = np.array([num_orderings(monomial) for monomial in basis.monomials.tolist()])
    return np.einsum("emp,kmp,p->ek", basis.table, polynomials, 1 / orderings) / basis.table.shape[1]


def num_orderings(monomial: list[int]) -> int:
    """How many different tuples have these indices."""
    return math.factorial(len(monomial)) // math.prod(math.factorial(monomial.count(index)) for index in set(monomial))


def _irreps_in(architecture: Architecture, layer: int) -> e3nn.Irreps:
    return e3nn.Irreps("0e") if layer == 0 else e3nn.Irreps(architecture.hidden_irreps)


def _irreps_out(architecture: Architecture, layer: int) -> e3nn.Irreps:
    return e3nn.Irreps("0e") if layer == architecture.num_interactions - 1 else e3nn.Irreps(architecture.hidden_irreps)


def _split(flat: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Consecutive pieces of a flat array."""
    ends = np.cumsum([np.prod(shape) for shape in shapes.values()])
    if ends[-1] != flat.size:
        raise ValueError(f"pieces {shapes} do not fill {flat.size} numbers")
    return {name: piece.reshape(shape) for (name, shape), piece in zip(shapes.items(), np.split(flat, ends[:-1]), strict=True)}


def _linear(flat: np.ndarray, copies: dict[str, int], channels: int) -> dict[str, np.ndarray]:
    """e3nn's `o3.Linear`: for each irrep [copies, channels, channels]."""
    return _split(flat, {irrep: (count, channels, channels) for irrep, count in copies.items()})


def _num_paths(irreps_in: e3nn.Irreps, l_max: int) -> dict[str, int]:
    """Paths of the interaction to each irrep of natural parity."""
    natural = e3nn.s2_irreps(l_max)
    products = [out for node in irreps_in for edge in natural for out in node.ir * edge.ir]
    return {str(mul_ir.ir): products.count(mul_ir.ir) for mul_ir in natural}


def _interaction(arrays: Mapping[str, np.ndarray], architecture: Architecture, layer: int) -> dict[Path, np.ndarray]:
    channels, irreps_in = architecture.num_channels, _irreps_in(architecture, layer)
    torch, ours = f"interactions.{layer}", ("layers", layer, "interaction")
    paths = _num_paths(irreps_in, architecture.l_max)
    up = _linear(arrays[f"{torch}.linear_up.weight"], {str(mul_ir.ir): 1 for mul_ir in irreps_in}, channels)
    mixed = _linear(arrays[f"{torch}.linear.weight"], paths, channels)
    num_hidden = len(architecture.radial_mlp)
    output = arrays[f"{torch}.conv_tp_weights.layer{num_hidden}.weight"]
    weights = {(*ours, "linear_up", "weights", irrep): weight for irrep, weight in up.items()}
    weights |= {(*ours, "linear", "weights", irrep): weight for irrep, weight in mixed.items()}
    weights |= {(*ours, "radial_mlp", "hidden", i): arrays[f"{torch}.conv_tp_weights.layer{i}.weight"] for i in range(num_hidden)}
    weights[*ours, "radial_mlp", "output"] = output.reshape(len(output), sum(paths.values()), channels).transpose(1, 0, 2)
    return weights


def _self_connection(arrays: Mapping[str, np.ndarray], architecture: Architecture, layer: int, num_species: int) -> dict[Path, np.ndarray]:
    """e3nn's `FullyConnectedTensorProduct` with one-hot elements: [channels, elements, channels] for each irrep."""
    channels = architecture.num_channels
    if layer > 0 or architecture.first_interaction == "residual":
        irreps_out = _irreps_out(architecture, layer)
        irreps = [str(mul_ir.ir) for mul_ir in _irreps_in(architecture, layer) if mul_ir.ir in irreps_out]
    else:
        irreps = [str(mul_ir.ir) for mul_ir in e3nn.s2_irreps(architecture.l_max)]
    skip = _split(arrays[f"interactions.{layer}.skip_tp.weight"], {irrep: (channels, num_species, channels) for irrep in irreps})
    return {("layers", layer, "self_connection", "skip", "weights", irrep): weight.transpose(1, 0, 2) for irrep, weight in skip.items()}


def _product_basis(arrays: Mapping[str, np.ndarray], architecture: Architecture, layer: int) -> dict[Path, np.ndarray]:
    irreps_out, ours = _irreps_out(architecture, layer), ("layers", layer, "product_basis")
    rows = []
    for order in range(1, architecture.correlation + 1):
        for block, mul_ir in enumerate(irreps_out):
            contraction = f"products.{layer}.symmetric_contractions.contractions.{block}"
            is_max = order == architecture.correlation
            weight = arrays[f"{contraction}.weights_max" if is_max else f"{contraction}.weights.{architecture.correlation - 1 - order}"]
            basis = symmetric_basis(e3nn.s2_irreps(architecture.l_max), mul_ir.ir, order)
            u_matrix = arrays[f"{contraction}.U_matrix_{order}"].reshape(mul_ir.ir.dim, *[(architecture.l_max + 1) ** 2] * order, -1)
            rows.append(np.einsum("ek,zkc->ezc", coordinates(symmetric_part(u_matrix, basis), basis), weight))
    linear = _linear(arrays[f"products.{layer}.linear.weight"], {str(mul_ir.ir): 1 for mul_ir in irreps_out}, architecture.num_channels)
    weights = {(*ours, "linear", "weights", irrep): weight for irrep, weight in linear.items()}
    weights[*ours, "weights"] = np.concatenate(rows)
    return weights
