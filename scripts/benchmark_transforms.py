"""Times the ways to compute one product basis: grids and transforms of the sphere, Fourier forms of the Gaunt product, other products.

All compute the same size (l_max, correlation, hidden irreps, nodes, channels): the value, its gradient, and what a training step needs,
the gradient of a projection of that gradient. Forms are timed in turn (A B C A B C ...) in one process, compilation apart. Forms that are
the same map are compared before they are timed.

    python scripts/benchmark_transforms.py --l-max 3 --hidden-irreps 0e+1o
"""

import argparse
import json
import time
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.config import TensorProductConfig, build_tensor_products
from mace_tp.environment import describe
from mace_tp.tensor_products.gaunt import TorusSampler, _fourier_projection
from mace_tp.tensor_products.pointwise import PointwisePowers, Sampler, Samples, rows_of_harmonics
from mace_tp.tensor_products.sphere import from_angles, harmonics, product_grid
from mace_tp.tensor_products.spherical_grid import SphereSampler

Form = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class ProductGridSampler(Sampler):
    """Gauss-Legendre times equal steps, with dense tables."""

    def samples(self, l_in: int, l_out: int, order: int) -> Samples:
        rule = product_grid(order * l_in + l_out)
        return Samples(harmonics(rule.points, l_in), harmonics(rule.points, l_out).T * rule.weights)


class Separable:
    """The product grid with separable transforms: Legendre functions over θ for each m, then sines and cosines over φ."""

    def __init__(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> None:
        self.plan = PointwisePowers(ProductGridSampler(), irreps_in, irreps_out, correlation)
        l_in, l_out = irreps_in[-1].ir.l, max(irrep.ir.l for irrep in irreps_out)
        degree = correlation * l_in + l_out
        nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
        self.angles = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
        self.l_in, self.l_out, self.rows_out = l_in, l_out, rows_of_harmonics(irreps_out)
        self.legendre_in, self.legendre_out = (self._legendre(nodes, l) for l in (l_in, l_out))
        self.legendre_out = self.legendre_out * (weights / 2)[:, None]

    def _legendre(self, nodes: np.ndarray, l_max: int) -> np.ndarray:
        """Factors of Y_lm that depend on θ [θ, (l, m)]."""
        # Where the factor in φ is one: φ = 0 for cosines, and for sines a quarter of their period.
        blocks = []
        for l in range(l_max + 1):
            for m in range(-l, l + 1):
                phi = 0.0 if m >= 0 else np.pi / (2 * -m)
                blocks.append(harmonics(from_angles(np.arccos(nodes), np.full(len(nodes), phi)), l)[:, l * l + l + m])
        return np.stack(blocks, axis=1)

    def _trigonometric(self, l_max: int) -> np.ndarray:
        """Factors in φ [m, φ], m = -l_max .. l_max."""
        return np.stack([np.cos(m * self.angles) if m >= 0 else np.sin(-m * self.angles) for m in range(-l_max, l_max + 1)])

    @staticmethod
    def _by_m(l_max: int) -> np.ndarray:
        """Which m each (l, m) has [(l, m), m], 0 or 1."""
        orders = [m for l in range(l_max + 1) for m in range(-l, l + 1)]
        return np.eye(2 * l_max + 1)[[m + l_max for m in orders]]

    def powers(self, feats: jax.Array, order: int) -> list[jax.Array]:
        """Projections of the powers 2 .. order."""
        dtype = feats.dtype
        forward = (self.legendre_in[:, :, None] * self._by_m(self.l_in)).astype(dtype)
        backward = (self.legendre_out[:, :, None] * self._by_m(self.l_out)).astype(dtype)
        values = jnp.einsum("tlm,lnk->tmnk", forward, feats)
        values = jnp.einsum("tmnk,mp->tpnk", values, self._trigonometric(self.l_in).astype(dtype))
        power, projected = values, []
        for _ in range(order - 1):
            power = power * values
            partial = jnp.einsum("tpnk,mp->tmnk", power, (self._trigonometric(self.l_out) / len(self.angles)).astype(dtype))
            projected.append(jnp.einsum("tlm,tmnk->lnk", backward, partial)[self.rows_out])
        return projected

    def __call__(self, weights: jax.Array, feats: jax.Array, species: jax.Array) -> jax.Array:
        return _weighted(self.plan, weights, feats, species, self.powers(feats, self.plan.correlation))


class Fourier:
    """Gaunt product in coefficients of the Fourier series: convolution by FFT of the whole torus, or term by term.

    As published (Luo et al. 2024) every multiplication goes back to harmonics if `returns`.
    """

    def __init__(
        self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int, convolution: str, returns: bool = False
    ) -> None:  # fmt: skip
        self.plan = PointwisePowers(TorusSampler(), irreps_in, irreps_out, correlation)
        self.l_in, self.rows_out, self.convolution, self.returns = irreps_in[-1].ir.l, rows_of_harmonics(irreps_out), convolution, returns

    @staticmethod
    def _series(l_max: int) -> np.ndarray:
        """Y_lm → Fourier coefficients [u, v, lm]."""
        size = 2 * l_max + 1
        angles = 2 * np.pi * np.arange(size) / size
        values = harmonics(from_angles(angles[:, None], angles[None, :]).reshape(-1, 3), l_max).reshape(size, size, -1)
        transform = np.exp(-1j * np.outer(np.arange(-l_max, l_max + 1), angles)) / size
        return np.einsum("ua,vb,abl->uvl", transform, transform, values)

    def _project(self, series: jax.Array, l_out: int, dtype: jnp.dtype) -> jax.Array:
        u = series.shape[0] // 2
        table = _fourier_projection(u, l_out).reshape(-1, 2 * u + 1, 2 * l_out + 1)
        middle = series[:, u - l_out : u + l_out + 1] if l_out <= u else jnp.pad(series, ((0, 0), (l_out - u,) * 2, (0, 0), (0, 0)))
        return jnp.einsum("luv,uvnk->lnk", jnp.asarray(table, middle.dtype), middle).real.astype(dtype)

    def _convolve(self, first: jax.Array, second: jax.Array) -> jax.Array:
        size = first.shape[0] + second.shape[0] - 1
        if self.convolution == "fft":
            spectra = [jnp.fft.fft2(factor, (size, size), axes=(0, 1)) for factor in (first, second)]
            return jnp.fft.ifft2(spectra[0] * spectra[1], axes=(0, 1))
        total = 0.0
        for u, v in np.ndindex(second.shape[:2]):
            padding = ((u, second.shape[0] - 1 - u), (v, second.shape[1] - 1 - v), (0, 0), (0, 0))
            total = total + jnp.pad(first * second[u, v], padding)
        return total

    def __call__(self, weights: jax.Array, feats: jax.Array, species: jax.Array) -> jax.Array:
        kind = jnp.result_type(feats.dtype, jnp.complex64)
        l_out = int(np.sqrt(self.rows_out.max()))
        series = jnp.einsum("uvl,lnk->uvnk", jnp.asarray(self._series(self.l_in), kind), feats)
        power, projected = series, []
        for order in range(2, self.plan.correlation + 1):
            power = self._convolve(power, series)
            projected.append(self._project(power, l_out, feats.dtype)[self.rows_out])
            if self.returns and order < self.plan.correlation:
                l_max = order * self.l_in
                coefficients = self._project(power, l_max, feats.dtype)
                power = jnp.einsum("uvl,lnk->uvnk", jnp.asarray(self._series(l_max), kind), coefficients)
        return _weighted(self.plan, weights, feats, species, projected)


def _weighted(plan: PointwisePowers, weights: jax.Array, feats: jax.Array, species: jax.Array, projected: list[jax.Array]) -> jax.Array:
    """What the plan makes of projected powers, for outputs that every order reaches."""
    node_weights = (weights * plan._norms.astype(weights.dtype)[:, None, None])[:, species]
    repeats = np.array([irrep.ir.dim for irrep in plan.irreps_out])
    per_order = node_weights.reshape(plan.correlation, len(plan.irreps_out), *node_weights.shape[1:])
    first = feats[: int(repeats.sum())]
    return sum(jnp.repeat(weight, repeats, axis=0) * power for weight, power in zip(per_order, [first, *projected]))


def main() -> None:
    options = _parser().parse_args()
    irreps_in, irreps_out = e3nn.s2_irreps(options.l_max), e3nn.Irreps(options.hidden_irreps)
    rng = np.random.default_rng(0)
    shape = irreps_in, irreps_out, options.correlation
    pointwise: dict[str, Form] = {
        "sphere: smallest rule, dense (spherical_grid)": PointwisePowers(SphereSampler(), *shape),
        "sphere: product grid, dense": PointwisePowers(ProductGridSampler(), *shape),
        "sphere: product grid, separable": Separable(*shape),
        "torus: half of it, dense (gaunt)": PointwisePowers(TorusSampler(), *shape),
        "Fourier: FFT": Fourier(*shape, "fft"),
        "Fourier: FFT, back to harmonics each time": Fourier(*shape, "fft", returns=True),
        "Fourier: direct convolution": Fourier(*shape, "direct"),
    }
    others = {name: build_tensor_products(TensorProductConfig(name, name)).product_basis.product_basis(*shape) for name in options.products}
    num_weights = {name: next(iter(pointwise.values())).num_weights for name in pointwise} | {n: p.num_weights for n, p in others.items()}
    forms = pointwise | others
    feats = jnp.asarray(rng.normal(size=(irreps_in.dim, options.nodes, options.channels)), jnp.float32)
    species = jnp.asarray(rng.integers(0, 4, options.nodes))
    weights = {name: jnp.asarray(rng.normal(size=(n, 4, options.channels)), jnp.float32) for name, n in num_weights.items()}
    _check_equality({name: pointwise[name] for name in pointwise}, next(iter(weights.values())), feats, species)
    print(json.dumps(describe(jax.devices()[0], "float32")))
    seconds = {name: {kind: [] for kind in ("value", "gradient", "second")} for name in forms}
    compiled = {name: _compile(form, weights[name], feats, species) for name, form in forms.items()}
    for _ in range(options.rounds):
        for name, functions in compiled.items():
            for kind, function in functions.items():
                start = time.perf_counter()
                jax.block_until_ready(function(weights[name], feats))
                seconds[name][kind].append(time.perf_counter() - start)
    print(f"{'ms, median of ' + str(options.rounds):48} {'value':>8} {'gradient':>8} {'training':>8}   ratio")
    first = np.median(seconds[next(iter(forms))]["second"])
    for name, kinds in seconds.items():
        medians = [1000 * np.median(values[1:]) for values in kinds.values()]
        print(f"{name:48} {medians[0]:8.2f} {medians[1]:8.2f} {medians[2]:8.2f} {medians[2] / first / 1000:7.1f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--l-max", type=int, default=3)
    parser.add_argument("--correlation", type=int, default=3)
    parser.add_argument("--hidden-irreps", default="0e+1o")
    parser.add_argument("--nodes", type=int, default=136)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--products", nargs="*", default=["cg", "matrix", "hybrid"], help="products that are another map")
    return parser


def _check_equality(forms: dict[str, Form], weights: jax.Array, feats: jax.Array, species: jax.Array) -> None:
    values = {name: np.asarray(jax.jit(form.__call__)(weights, feats, species)) for name, form in forms.items()}
    reference = next(iter(values.values()))
    for name, value in values.items():
        error = np.abs(value - reference).max() / np.abs(reference).max()
        if error > 1e-4:  # float32
            raise SystemExit(f"{name} is another map: it differs by {error:.1e}")


def _compile(form: Form, weights: jax.Array, feats: jax.Array, species: jax.Array) -> dict[str, Callable]:
    """Value, gradient, and gradient of a projection of the gradient, with respect to weights and features."""
    probe = jnp.asarray(np.random.default_rng(1).normal(size=jax.eval_shape(form, weights, feats, species).shape), feats.dtype)

    def projected(weights: jax.Array, feats: jax.Array) -> jax.Array:
        return jnp.sum(probe * form(weights, feats, species))

    def slope(weights: jax.Array, feats: jax.Array) -> jax.Array:
        return jnp.sum(jax.grad(projected, 1)(weights, feats) * feats[::-1]) + projected(weights, feats)

    functions = {"value": lambda w, f: form(w, f, species), "gradient": jax.grad(projected, 1), "second": jax.grad(slope, (0, 1))}
    return {kind: jax.jit(function) for kind, function in functions.items()}


if __name__ == "__main__":
    main()
