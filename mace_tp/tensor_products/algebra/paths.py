"""Paths: the couplings of two irreps to a third that O(3) allows."""

import dataclasses

import e3nn_jax as e3nn
import numpy as np

from mace_tp.tensor_products.algebra.symmetric_basis import clebsch_gordan


@dataclasses.dataclass(frozen=True)
class Path:
    """One coupling of two irreps to a third; in an interaction, of a node's irrep and a harmonic to an irrep of the message."""

    node: e3nn.Irrep
    edge: e3nn.Irrep
    out: e3nn.Irrep


def paths_between(irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> tuple[Path, ...]:
    """All paths that O(3) allows, sorted by output irrep, then by first and second irrep: ACEsuit's order."""
    paths = [Path(left.ir, right.ir, out) for left in irreps_1 for right in irreps_2 for out in left.ir * right.ir if out in irreps_keep]
    return tuple(sorted(paths, key=lambda path: (path.out.l, path.out.p)))


def path_coupling(path: Path) -> np.ndarray:
    """sqrt(2l3+1) C[l1, l2, l3] [2l1+1, 2l2+1, 2l3+1]: an output component has unit variance if the inputs have."""
    return np.sqrt(path.out.dim) * clebsch_gordan(path.node.l, path.edge.l, path.out.l)
