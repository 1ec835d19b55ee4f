"""Our tensor products beside the ways in which published implementations compute the same.

* `cg` one sample at a time, every path a dense contraction with its coupling tensor, the samples by `vmap`.
* `spherical_grid` on a grid of 100 × 99 points whatever the degrees are, and on 2L+1 × 4L+3 points, with the separable transforms of
  e3nn-jax, which want an odd number of angles.
* The product basis of `spherical_grid` that goes back to coefficients after every multiplication, on (2νl+2) × (2νl+1) points.

These are our own programs of what public code of PriceofFreedom and Gaunt-Tensor-Product-S2Grid does, not that code. The results are
compared before they are timed, and timed in turn.

    python benchmarks/benchmark_published.py
"""

import argparse
import json
import warnings
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.benchmark.cases import Operation
from mace_tp.benchmark.derivatives import DERIVATIVES
from mace_tp.benchmark.timing import compile_program, time_in_turn
from mace_tp.runtime.environment import describe
from mace_tp.tensor_products.algebra.irreps import rows_of, rows_of_harmonics
from mace_tp.tensor_products.algebra.paths import path_coupling
from mace_tp.tensor_products.algebra.sampling import SphereSampler
from mace_tp.tensor_products.algebra.sphere import from_angles, harmonics
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.ops.pointwise import PointwisePowers
from mace_tp.tensor_products.plans import BilinearPlan
from mace_tp.tensor_products.spherical_grid import SphericalGrid

Form = Callable[..., jax.Array]


def sample_by_sample(plan: BilinearPlan) -> Form:
    """`cg` for one sample, mapped over samples [samples, components]."""
    tables = [path_coupling(path) for path in plan.paths]
    first_rows, second_rows = rows_of(plan.irreps_1), rows_of(plan.irreps_2)

    def product(first: jax.Array, second: jax.Array) -> jax.Array:
        blocks = [
            jnp.einsum("i,j,ijk->k", first[first_rows[path.node]], second[second_rows[path.edge]], table.astype(first.dtype))
            for path, table in zip(plan.paths, tables, strict=True)
        ]
        return jnp.concatenate(blocks)

    return jax.vmap(product)


def on_a_grid(l_max: int, num_theta: int, num_phi: int) -> Form:
    """Product of signals [samples, components] on a grid, with e3nn-jax's transforms; outputs 0 .. 2L."""
    irreps, outputs = e3nn.s2_irreps(l_max), e3nn.s2_irreps(2 * l_max)

    def product(first: jax.Array, second: jax.Array) -> jax.Array:
        options = {"quadrature": "gausslegendre", "normalization": "integral", "p_val": 1, "p_arg": -1, "fft": False}
        left, right = (e3nn.to_s2grid(e3nn.IrrepsArray(irreps, x), num_theta, num_phi, **options) for x in (first, second))
        projected = e3nn.from_s2grid(left * right, outputs, normalization="integral", fft=False)
        return projected.array

    return product


class Returning:
    """Powers A^ν by ν - 1 products, each from coefficients to coefficients of all degrees up to νl."""

    def __init__(self, plan: PointwisePowers) -> None:
        self.plan, self.l_in = plan, plan.irreps_in[-1].ir.l
        degree = plan.correlation * self.l_in
        nodes, weights = np.polynomial.legendre.leggauss(2 * degree + 2)
        angles = 2 * np.pi * np.arange(2 * degree + 1) / (2 * degree + 1)
        points = from_angles(np.arccos(nodes)[:, None], angles[None, :]).reshape(-1, 3)
        self.values = harmonics(points, degree)
        self.projection = self.values.T * np.repeat(weights / 2, len(angles)) / len(angles)

    def __call__(self, weights: jax.Array, feats: jax.Array, species: jax.Array) -> jax.Array:
        plan, dtype = self.plan, feats.dtype
        node_weights = plan.polynomial_weights(weights)[:, species]
        rows, repeats = rows_of_harmonics(plan.irreps_out), np.array([irrep.ir.dim for irrep in plan.irreps_out])
        power, total = feats, 0.0
        for order, weight in enumerate(node_weights.reshape(plan.correlation, len(repeats), *node_weights.shape[1:]), 1):
            if order > 1:
                size = (order * self.l_in + 1) ** 2
                before = self._at_points(power) * self._at_points(feats)
                power = jnp.einsum("mp,pnk->mnk", self.projection[:size].astype(dtype), before)
            total += jnp.repeat(weight, repeats, axis=0) * power[rows]
        return total

    def _at_points(self, feats: jax.Array) -> jax.Array:
        return jnp.einsum("pl,lnk->pnk", self.values[:, : len(feats)].astype(feats.dtype), feats)


def main() -> None:
    options = _parser().parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of what e3nn-jax calls
    print(json.dumps(describe(jax.devices()[0], "float32")))
    for l_max in options.l_max:
        _compare(f"cg, MIMO, L = {l_max}", *_cg(l_max, options.batch), options.repeats)
        _compare(f"spherical_grid, MIMO, L = {l_max}", *_grid(l_max, options.batch), options.repeats)
    _compare("spherical_grid, product basis, l = 3, order 3", *_powers(options.nodes, options.channels), options.repeats)


def _cg(l_max: int, batch: int) -> tuple[dict[str, Operation], dict[str, Form]]:
    plan = CG().bilinear(e3nn.s2_irreps(l_max), e3nn.s2_irreps(l_max), e3nn.s2_irreps(2 * l_max))
    return _bilinear({"ours": plan}, {"sample by sample": sample_by_sample(plan)}, l_max, batch)


def _grid(l_max: int, batch: int) -> tuple[dict[str, Operation], dict[str, Form]]:
    plan = SphericalGrid().bilinear(e3nn.s2_irreps(l_max), e3nn.s2_irreps(l_max), e3nn.s2_irreps(2 * l_max))
    theirs = {
        f"grid {2 * l_max + 1} x {4 * l_max + 3}": on_a_grid(l_max, 2 * l_max + 1, 4 * l_max + 3),
        "grid 100 x 99": on_a_grid(l_max, 100, 99),
    }
    return _bilinear({"ours": plan}, theirs, l_max, batch)


def _bilinear(ours: dict[str, Form], theirs: dict[str, Form], l_max: int, batch: int) -> tuple[dict[str, Operation], dict[str, Form]]:
    """Operations, and for each what brings its result to [samples, components]."""
    rng = np.random.default_rng(0)
    features = [jnp.asarray(rng.normal(size=((l_max + 1) ** 2, batch)), jnp.float32) for _ in range(2)]
    turned = [jnp.asarray(np.ascontiguousarray(x.T)) for x in features]
    operations = {name: Operation(form.__call__, tuple(features), (0, 1), (0, 1)) for name, form in ours.items()}
    operations |= {name: Operation(form, tuple(turned), (0, 1), (0, 1)) for name, form in theirs.items()}
    return operations, dict.fromkeys(ours, np.transpose) | dict.fromkeys(theirs, np.asarray)


def _powers(nodes: int, channels: int) -> tuple[dict[str, Operation], dict[str, Form]]:
    plan = PointwisePowers(SphereSampler(), e3nn.s2_irreps(3), e3nn.Irreps("0e+1o+2e"), 3)
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=(plan.num_weights, 4, channels)), jnp.float32)
    arguments = weights, jnp.asarray(rng.normal(size=(16, nodes, channels)), jnp.float32), jnp.asarray(rng.integers(0, 4, nodes))
    forms = {"ours": plan.__call__, "back to coefficients": Returning(plan).__call__}
    return {name: Operation(form, arguments, (1,), (0, 1)) for name, form in forms.items()}, dict.fromkeys(forms, np.asarray)


def _compare(title: str, operations: dict[str, Operation], arranged: dict[str, Form], repeats: int) -> None:
    """Print times and their ratio to ours, after a comparison of the results."""
    results = {name: arranged[name](jax.jit(operation.function)(*operation.arguments)) for name, operation in operations.items()}
    for name, result in results.items():
        error = np.abs(result - results["ours"]).max() / np.abs(results["ours"]).max()
        if error > 1e-4:  # float32
            raise SystemExit(f"{title}: {name} is another map: it differs by {error:.1e}")
    print(f"\n{title:50}" + "".join(f"{kind:>12} ms ratio" for kind in DERIVATIVES))
    cells: dict[str, str] = dict.fromkeys(operations, "")
    for derivative in DERIVATIVES.values():
        compiled = {name: compile_program(*derivative(operation)) for name, operation in operations.items()}
        seconds = time_in_turn({name: program.call for name, program in compiled.items()}, repeats)
        for name, values in seconds.items():
            ratio = np.median(values / seconds["ours"])
            cells[name] += f"{1000 * np.median(values):15.2f} {ratio:5.1f}"
    for name, text in cells.items():
        print(f"{name:50}{text}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--l-max", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=136)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    return parser


if __name__ == "__main__":
    main()
