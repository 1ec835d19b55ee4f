"""Parameters of ACEsuit's `ScaleShiftMACE` and of our `cg` model: the same numbers under different names, except in the product basis.

e3nn keeps the weights of all irreps of a layer in one flat array; mace-tp has one array for each irrep. The product basis of mace-torch
has a weight for every column of its U matrices, of which only the symmetric part counts. With sym(U) = Q R, where Q is our orthonormal
basis, our weights are R times theirs, and theirs are the pseudo-inverse of R times ours. Where a coupling of e3nn is the negative of
ours, the weights of the linear map after the interaction change sign.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import e3nn_jax as e3nn
import numpy as np

from mace_tp.model.architecture import Architecture
from mace_tp.tensor_products.algebra.symmetric_basis import SymmetricBasis, clebsch_gordan, multiplicity, symmetric_basis

Arrays = Mapping[str, np.ndarray]
# Entries of a U matrix are of order one; float32 rounds them to 1e-7.
_NOTHING = 1e-6


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A part of one of torch's arrays."""

    name: str  # ours
    shape: tuple[int, ...]  # theirs
    axes: tuple[int, ...] = ()  # their axes in our order; empty: the same order
    signs: tuple[int, ...] = (1,)  # along our first axis

    def to_ours(self, part: np.ndarray) -> np.ndarray:
        return self._signed(part.reshape(self.shape).transpose(self.axes or range(len(self.shape))))

    def to_theirs(self, ours: np.ndarray) -> np.ndarray:
        return self._signed(np.asarray(ours, np.float64)).transpose(np.argsort(self.axes or range(len(self.shape)))).ravel()

    def _signed(self, ours: np.ndarray) -> np.ndarray:
        return ours * np.reshape(self.signs, (-1, *[1] * (ours.ndim - 1)))


@dataclasses.dataclass(frozen=True)
class _Contraction:
    """Weights of the product basis for one order and one irrep of the output."""

    name: str  # ours
    rows: slice  # of ours
    weight: str  # theirs [elements, columns, channels]
    u_matrix: str  # theirs [2l+1, ..., columns]
    basis: SymmetricBasis


def to_ours(arrays: Arrays, architecture: Architecture, num_species: int) -> dict[str, np.ndarray]:
    """Our parameters by name.

    Args:
        arrays: parameters and U matrices by their names in the torch state dict, of one head.
        architecture: shape of the model.
        num_species: number of its elements.

    Raises:
        ValueError: an array is missing or has another size.
    """
    ours: dict[str, np.ndarray] = {}
    for theirs, pieces in _layout(architecture, num_species).items():
        flat = _array(arrays, theirs).ravel()
        ends = np.cumsum([np.prod(piece.shape) for piece in pieces])
        if ends[-1] != flat.size:
            raise ValueError(f"{theirs} has {flat.size} numbers, {ends[-1]} expected")
        for piece, part in zip(pieces, np.split(flat, ends[:-1]), strict=True):
            ours[piece.name] = piece.to_ours(part)
    rows: dict[str, list[np.ndarray]] = {}
    for part in _contractions(architecture):
        basis_change = _basis_change(arrays, part, architecture.l_max)
        rows.setdefault(part.name, []).append(np.einsum("ek,zkc->ezc", basis_change, _array(arrays, part.weight)))
    return ours | {name: np.concatenate(values) for name, values in rows.items()}


def to_theirs(ours: Arrays, u_matrices: Arrays, architecture: Architecture, num_species: int) -> dict[str, np.ndarray]:
    """mace-torch's parameters by their names in the state dict, those outside the product basis flat; the inverse of `to_ours`.

    Among the weights of the product basis that give the same function, these have the smallest norm.

    Args:
        ours: our parameters by name.
        u_matrices: U matrices of the model that is written.
        architecture: shape of the model.
        num_species: number of its elements.
    """
    theirs: dict[str, np.ndarray] = {}
    for name, pieces in _layout(architecture, num_species).items():
        theirs[name] = np.concatenate([piece.to_theirs(ours[piece.name]) for piece in pieces])
    for part in _contractions(architecture):
        basis_change = _basis_change(u_matrices, part, architecture.l_max)
        weight = np.asarray(ours[part.name][part.rows], np.float64)
        theirs[part.weight] = np.einsum("ke,ezc->zkc", np.linalg.pinv(basis_change), weight)
    return theirs


def symmetric_part(u_matrix: np.ndarray, basis: SymmetricBasis) -> np.ndarray:
    """Columns of a U matrix [2L+1, i1, ..., iν, columns] as polynomials: coefficients [columns, 2L+1, monomials of the basis].

    Raises:
        ValueError: a column has a monomial that the basis lacks.
    """
    positions = {tuple(monomial): i for i, monomial in enumerate(basis.monomials.tolist())}
    polynomials = np.zeros((u_matrix.shape[-1], u_matrix.shape[0], len(positions)))
    others: dict[tuple[int, ...], np.ndarray] = {}
    for factors in np.argwhere(np.any(u_matrix != 0, axis=(0, -1))):
        monomial, values = tuple(sorted(factors.tolist())), u_matrix[(slice(None), *factors)].T
        if monomial in positions:
            polynomials[..., positions[monomial]] += values
        else:
            # Antisymmetric parts of a column cancel in the sum.
            others[monomial] = others.get(monomial, 0) + values
    if unknown := [monomial for monomial, values in others.items() if np.abs(values).max() > _NOTHING]:
        raise ValueError(f"the basis has no monomial {unknown[0]}")
    return polynomials


def coordinates(polynomials: np.ndarray, basis: SymmetricBasis) -> np.ndarray:
    """R [couplings, columns]: coordinates of polynomials [columns, 2L+1, monomials] in the reduced basis, of the QR sym(U) = Q R."""
    orderings = np.array([multiplicity(tuple(monomial)) for monomial in basis.monomials.tolist()])
    return np.einsum("emp,kmp,p->ek", basis.table, polynomials, 1 / orderings) / basis.table.shape[1]


def coupling_sign(l1: int, l2: int, l3: int) -> int:
    """One where e3nn's coupling (torch) of three degrees is ours (e3nn_jax), minus one where it is its negative.

    If the sum of the degrees is even, both have the same sign. An odd sum occurs only with irreps of unnatural parity, such as 1e. Then the
    first nonzero component of e3nn's coupling is positive for ascending degrees; other orders are signed permutations of this coupling.

    Source: `o3.wigner_3j` of e3nn 0.4, compared for all degrees up to 8.
    """
    if (l1 + l2 + l3) % 2 == 0:
        return 1
    ascending = np.argsort([l1, l2, l3], kind="stable")
    ours = clebsch_gordan(l1, l2, l3).transpose(ascending)
    return int(np.sign(ours[ours != 0][0] * np.linalg.det(np.eye(3)[ascending])))


def _basis_change(arrays: Arrays, part: _Contraction, l_max: int) -> np.ndarray:
    u_matrix = np.asarray(_array(arrays, part.u_matrix), np.float64)
    order, (num_components, columns) = part.basis.monomials.shape[1], (part.basis.table.shape[1], u_matrix.shape[-1])
    u_matrix = u_matrix.reshape(num_components, *[(l_max + 1) ** 2] * order, columns)
    return coordinates(symmetric_part(u_matrix, part.basis), part.basis)


def _array(arrays: Arrays, name: str) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"there is no {name}")
    return np.asarray(arrays[name])


def _layout(architecture: Architecture, num_species: int) -> dict[str, list[_Piece]]:
    """The pieces of each of torch's arrays, except those of the product basis."""
    channels, num_layers = architecture.num_channels, architecture.num_interactions
    layout = {"node_embedding.linear.weight": [_Piece("embedding.weight", (num_species, channels))]}
    for layer in range(num_layers):
        layout |= _interaction(architecture, layer)
        layout |= _self_connection(architecture, layer, num_species)
        linear = f"layers.{layer}.product_basis.linear"
        layout[f"products.{layer}.linear.weight"] = _linear(linear, _one_copy(architecture.irreps_out(layer)), channels)
        readout = f"readouts.{layer}"
        if layer == num_layers - 1 and num_layers > 1:
            width = architecture.readout_mlp
            layout[f"{readout}.linear_1.weight"] = [_Piece(f"{readout}.hidden", (channels, width))]
            layout[f"{readout}.linear_2.weight"] = [_Piece(f"{readout}.output", (width,))]
        else:
            layout[f"{readout}.linear.weight"] = [_Piece(f"{readout}.weight", (channels,))]
    return layout


def _linear(name: str, signs: Mapping[str, tuple[int, ...]], channels: int) -> list[_Piece]:
    """e3nn's `o3.Linear`: for each irrep, of which there are `len(signs)` copies, [copies, channels, channels]."""
    return [_Piece(f"{name}.weights.{irrep}", (len(each), channels, channels), signs=each) for irrep, each in signs.items()]


def _one_copy(irreps: e3nn.Irreps) -> dict[str, tuple[int, ...]]:
    return {str(mul_ir.ir): (1,) for mul_ir in irreps}


def _path_signs(irreps_in: e3nn.Irreps, l_max: int) -> dict[str, tuple[int, ...]]:
    """For each irrep of natural parity the paths of the interaction to it, as signs of their couplings."""
    natural = e3nn.s2_irreps(l_max)
    pairs = [(node.ir, edge.ir) for node in irreps_in for edge in natural]
    return {str(out.ir): tuple(coupling_sign(node.l, edge.l, out.ir.l) for node, edge in pairs if out.ir in node * edge) for out in natural}


def _interaction(architecture: Architecture, layer: int) -> dict[str, list[_Piece]]:
    channels, irreps_in = architecture.num_channels, architecture.irreps_in(layer)
    theirs, ours = f"interactions.{layer}", f"layers.{layer}.interaction"
    paths = _path_signs(irreps_in, architecture.l_max)
    num_paths = sum(len(signs) for signs in paths.values())
    sizes = [architecture.num_bessel, *architecture.radial_mlp]
    last = len(sizes) - 1
    layout = {
        f"{theirs}.linear_up.weight": _linear(f"{ours}.linear_up", _one_copy(irreps_in), channels),
        f"{theirs}.linear.weight": _linear(f"{ours}.linear", paths, channels),
        f"{theirs}.conv_tp_weights.layer{last}.weight": [_Piece(f"{ours}.radial_mlp.output", (sizes[-1], num_paths, channels), (1, 0, 2))],
    }
    for i in range(last):
        layout[f"{theirs}.conv_tp_weights.layer{i}.weight"] = [_Piece(f"{ours}.radial_mlp.hidden.{i}", (sizes[i], sizes[i + 1]))]
    if architecture.message_normalization == "density":
        layout[f"{theirs}.density_fn.layer0.weight"] = [_Piece(f"{ours}.normalization.weight", (architecture.num_bessel,))]
    return layout


def _self_connection(architecture: Architecture, layer: int, num_species: int) -> dict[str, list[_Piece]]:
    """e3nn's `FullyConnectedTensorProduct` with one-hot elements: [channels, elements, channels] for each irrep."""
    kind = architecture.other_interactions if layer > 0 else architecture.first_interaction
    natural = architecture.harmonics
    received, made = (architecture.irreps_in(layer), architecture.irreps_out(layer)) if kind == "residual" else (natural, natural)
    irreps = [str(mul_ir.ir) for mul_ir in received if mul_ir.ir in made]
    shape = (architecture.num_channels, num_species, architecture.num_channels)
    name = f"layers.{layer}.self_connection.skip.weights"
    return {f"interactions.{layer}.skip_tp.weight": [_Piece(f"{name}.{irrep}", shape, (1, 0, 2)) for irrep in irreps]}


def _contractions(architecture: Architecture) -> Iterator[_Contraction]:
    """All parts of the product bases, in the order of our rows."""
    natural, correlation = architecture.harmonics, architecture.correlation
    for layer in range(architecture.num_interactions):
        start = 0
        for order in range(1, correlation + 1):
            for block, out in enumerate(architecture.irreps_out(layer)):
                theirs = f"products.{layer}.symmetric_contractions.contractions.{block}"
                basis = symmetric_basis(natural, out.ir, order)
                rows = slice(start, start + len(basis.table))
                weight = "weights_max" if order == correlation else f"weights.{correlation - 1 - order}"
                yield _Contraction(f"layers.{layer}.product_basis.weights", rows, f"{theirs}.{weight}", f"{theirs}.U_matrix_{order}", basis)
                start = rows.stop
