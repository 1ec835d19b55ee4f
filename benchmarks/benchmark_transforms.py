"""Times the ways to compute one site of the model: grids and transforms of the sphere, Fourier forms of the Gaunt product, other products.

All compute the same size (l_max, correlation, hidden irreps, nodes, channels), with the derivatives of `mace-tp benchmark`, timed in
turn. Forms that are the same map are compared before they are timed.

    python benchmarks/benchmark_transforms.py --l-max 3 --hidden-irreps 0e+1o
    python benchmarks/benchmark_transforms.py --site interaction
"""

import argparse
import json
from collections.abc import Callable

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.benchmark.cases import Operation
from mace_tp.benchmark.derivatives import DERIVATIVES
from mace_tp.benchmark.timing import compile_program, time_in_turn
from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.graph import GraphBatch, batch_of_edges
from mace_tp.runtime.environment import describe
from mace_tp.tensor_products.algebra.irreps import rows_of_harmonics
from mace_tp.tensor_products.algebra.sampling import Sampler, Samples, SphereSampler
from mace_tp.tensor_products.algebra.sphere import from_angles, harmonics, product_grid, quadrature
from mace_tp.tensor_products.algebra.symmetric_basis import symmetric_basis
from mace_tp.tensor_products.cg import CGProductBasis
from mace_tp.tensor_products.fixed_product import DegreeWeighted
from mace_tp.tensor_products.gaunt import TorusSampler, _fourier_projection
from mace_tp.tensor_products.ops.edge_sums import edge_weights, gather_blocks, in_blocks
from mace_tp.tensor_products.ops.pointwise import PointwisePowers
from mace_tp.tensor_products.plans import InteractionPlan
from mace_tp.tensor_products.registry import parse_product

Form = Callable[..., jax.Array]
# Forms that are the same map, further forms, the arguments of a form (its weights first), and which of them depend on positions.
Case = tuple[dict[str, Form], dict[str, Form], Callable[[Form], tuple], tuple[int, ...]]


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
    """Gaunt product in coefficients of the Fourier series (Luo et al. 2024).

    `fft` samples the whole torus by an inverse FFT, multiplies there and transforms every power by an FFT of real samples; `published`
    goes back to harmonics after every multiplication, with complex FFTs, as the code published with the method does; `direct` adds up
    the convolution of coefficients term by term.
    """

    def __init__(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int, convolution: str) -> None:
        self.plan = PointwisePowers(TorusSampler(), irreps_in, irreps_out, correlation)
        self.l_in, self.l_out = irreps_in[-1].ir.l, max(irrep.ir.l for irrep in irreps_out)
        self.rows_out = rows_of_harmonics(irreps_out)
        self.powers = {"fft": self._powers_by_fft, "published": self._powers_as_published, "direct": self._powers_directly}[convolution]

    @staticmethod
    def _series(l_max: int) -> np.ndarray:
        """Y_lm → Fourier coefficients [u, v, lm], from -l_max."""
        size = 2 * l_max + 1
        angles = 2 * np.pi * np.arange(size) / size
        values = harmonics(from_angles(angles[:, None], angles[None, :]).reshape(-1, 3), l_max).reshape(size, size, -1)
        transform = np.exp(-1j * np.outer(np.arange(-l_max, l_max + 1), angles)) / size
        return np.einsum("ua,vb,abl->uvl", transform, transform, values)

    def _to_series(self, feats: jax.Array, l_max: int) -> jax.Array:
        kind = jnp.result_type(feats.dtype, jnp.complex64)
        return jnp.einsum("uvl,lnk->uvnk", jnp.asarray(self._series(l_max), kind), feats)

    def _project(self, series: jax.Array, l_out: int) -> jax.Array:
        """Coefficients [u, v, nodes, channels] from -U to U → harmonics up to l_out."""
        u, v = series.shape[0] // 2, series.shape[1] // 2
        table = jnp.asarray(_fourier_projection(u, l_out).reshape(-1, 2 * u + 1, 2 * l_out + 1), series.dtype)
        reach = min(l_out, v)
        return jnp.einsum("luv,uvnk->lnk", table[:, :, l_out - reach : l_out + reach + 1], series[:, v - reach : v + reach + 1]).real

    def _powers_by_fft(self, feats: jax.Array, order: int) -> list[jax.Array]:
        bandwidth = order * self.l_in
        num_theta, num_phi = 2 * bandwidth + 1, bandwidth + self.l_out + 1
        half = self._to_series(feats, self.l_in)[:, self.l_in :]  # v ≥ 0; the samples are real
        padded = jnp.zeros((num_theta, num_phi // 2 + 1, *feats.shape[1:]), half.dtype)
        padded = padded.at[: self.l_in + 1, : self.l_in + 1].set(half[self.l_in :]).at[-self.l_in :, : self.l_in + 1].set(half[: self.l_in])
        values = jnp.fft.irfft2(padded, (num_theta, num_phi), axes=(0, 1)) * (num_theta * num_phi)
        power, projected = values, []
        table = jnp.asarray(_fourier_projection(bandwidth, self.l_out).reshape(-1, num_theta, 2 * self.l_out + 1), half.dtype)
        table = jnp.roll(table, bandwidth + 1, axis=1)[:, :, self.l_out :].at[:, :, 1:].multiply(2)  # v < 0 is the conjugate
        for _ in range(order - 1):
            power = power * values
            spectrum = jnp.fft.rfft2(power, axes=(0, 1))[:, : self.l_out + 1] / (num_theta * num_phi)
            projected.append(jnp.einsum("luv,uvnk->lnk", table, spectrum).real[self.rows_out])
        return projected

    def _powers_as_published(self, feats: jax.Array, order: int) -> list[jax.Array]:
        first, power, projected = self._to_series(feats, self.l_in), self._to_series(feats, self.l_in), []
        for nu in range(2, order + 1):
            size = 2 * nu * self.l_in + 1
            product = jnp.prod(jnp.stack([jnp.fft.fft2(factor, (size, size), axes=(0, 1)) for factor in (power, first)]), axis=0)
            coefficients = self._project(jnp.fft.ifft2(product, axes=(0, 1)), nu * self.l_in)
            projected.append(coefficients[self.rows_out])
            power = self._to_series(coefficients, nu * self.l_in)
        return projected

    def _powers_directly(self, feats: jax.Array, order: int) -> list[jax.Array]:
        first = power = self._to_series(feats, self.l_in)
        projected = []
        for _ in range(order - 1):
            total = jnp.zeros((power.shape[0] + 2 * self.l_in, power.shape[1] + 2 * self.l_in, *feats.shape[1:]), first.dtype)
            for u, v in np.ndindex(first.shape[:2]):
                total = total.at[u : u + power.shape[0], v : v + power.shape[1]].add(power * first[u, v])
            power = total
            projected.append(self._project(power, self.l_out)[self.rows_out])
        return projected

    def __call__(self, weights: jax.Array, feats: jax.Array, species: jax.Array) -> jax.Array:
        return _weighted(self.plan, weights, feats, species, self.powers(feats, self.plan.correlation))


def _weighted(plan: PointwisePowers, weights: jax.Array, feats: jax.Array, species: jax.Array, projected: list[jax.Array]) -> jax.Array:
    """Apply the plan to projected powers, for outputs that every order reaches."""
    node_weights = plan.polynomial_weights(weights)[:, species]
    repeats = np.array([irrep.ir.dim for irrep in plan.irreps_out])
    per_order = node_weights.reshape(plan.correlation, len(plan.irreps_out), *node_weights.shape[1:])
    first = feats[: int(repeats.sum())]
    return sum(jnp.repeat(weight, repeats, axis=0) * power for weight, power in zip(per_order, [first, *projected]))


class Monomials:
    """`cg` in the plain form: monomials of the features times the tables of the reduced symmetric basis, order by order."""

    def __init__(self, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps, correlation: int) -> None:
        self.plan = CGProductBasis(irreps_in, irreps_out, correlation)

    def __call__(self, weights: jax.Array, feats: jax.Array, species: jax.Array) -> jax.Array:
        plan, outputs, weight = self.plan, [0.0] * len(self.plan.irreps_out), 0
        for order in range(1, plan.correlation + 1):
            for i, irrep in enumerate(plan.irreps_out):
                basis = symmetric_basis(plan.irreps_in, irrep.ir, order)
                monomials = jnp.prod(jnp.stack([feats[column] for column in basis.monomials.T]), axis=0)
                couplings = jnp.tensordot(basis.table.astype(feats.dtype), monomials, axes=1)
                outputs[i] += jnp.einsum("em...,e...->m...", couplings, weights[weight : weight + len(couplings)][:, species])
                weight += len(couplings)
        return jnp.concatenate(outputs)


class EdgesOnTheSphere:
    """The interaction of `spherical_grid` with the products on the sphere, edge by edge; nodes are transformed once, and back once."""

    def __init__(self, plan: DegreeWeighted) -> None:
        self.plan = plan
        outputs = e3nn.Irreps([(1, irrep) for irrep in plan._outputs])
        l_1, l_2, l_3 = (irreps[-1].ir.l for irreps in (plan.irreps_node, plan.irreps_edge, outputs))
        rule = quadrature(l_1 + l_2 + l_3)
        self.values, self.filters = harmonics(rule.points, l_1), harmonics(rule.points, l_2)
        scales = np.concatenate([np.full(irrep.dim, plan._scales[irrep]) for irrep in plan._outputs])
        self.projection = (harmonics(rule.points, l_3).T * rule.weights) * scales[:, None]

    def __call__(self, pair_weights: jax.Array, feats: jax.Array, edge_attrs: jax.Array, batch: GraphBatch) -> jax.Array:
        weights = edge_weights(pair_weights, batch.edge_pair)
        dtype, num_factors = feats.dtype, len(self.plan.irreps_node) - 1
        factors = [jnp.ones(()), *(in_blocks(weight)[:, :, None] for weight in weights[:num_factors])]
        signal, edge_filter = 0.0, 0.0
        for irrep, rows, factor in zip(self.plan.irreps_node, self.plan.irreps_node.slices(), factors):
            at_nodes = jnp.einsum("pl,lnk->pnk", self.values[:, irrep.ir.l**2 : (irrep.ir.l + 1) ** 2].astype(dtype), feats[rows])
            signal += factor * gather_blocks(at_nodes, batch.senders)
        for irrep, rows, weight in zip(self.plan.irreps_edge, self.plan.irreps_edge.slices(), weights[num_factors:]):
            at_edges = edge_attrs[:, rows] @ self.filters[:, irrep.ir.l**2 : (irrep.ir.l + 1) ** 2].T.astype(dtype)
            edge_filter += in_blocks(at_edges)[..., None] * in_blocks(weight)[:, :, None]
        summed = jax.ops.segment_sum((signal * edge_filter).sum(1), batch.receivers[::EDGE_BLOCK], feats.shape[1], indices_are_sorted=True)
        return jnp.einsum("mp,npk->mnk", self.projection.astype(dtype), summed)


def main() -> None:
    options = _parser().parse_args()
    sizes = e3nn.s2_irreps(options.l_max), e3nn.Irreps(options.hidden_irreps)
    make = {"interaction": _interactions, "product_basis": _product_bases}[options.site]
    same, others, arguments, moved = make(options, *sizes)
    _check_equality(same, arguments)
    forms = same | others
    print(json.dumps(describe(jax.devices()[0], "float32")))
    operations = {name: Operation(form.__call__, arguments(form), moved, (0, 1)) for name, form in forms.items()}
    medians: dict[str, list[float]] = {name: [] for name in forms}
    for derivative in DERIVATIVES.values():
        compiled = {name: compile_program(*derivative(operation)) for name, operation in operations.items()}
        seconds = time_in_turn({name: program.call for name, program in compiled.items()}, options.rounds)
        for name, values in seconds.items():
            medians[name].append(1000 * float(np.median(values)))
    print(f"{'ms, median of ' + str(options.rounds):48}" + "".join(f" {name:>8}" for name in DERIVATIVES) + "   ratio")
    for name, times in medians.items():
        print(f"{name:48}" + "".join(f" {time:8.2f}" for time in times) + f" {times[-1] / next(iter(medians.values()))[-1]:7.1f}")


def _product_bases(options: argparse.Namespace, irreps_in: e3nn.Irreps, irreps_out: e3nn.Irreps) -> Case:
    shape = irreps_in, irreps_out, options.correlation
    grid = PointwisePowers(SphereSampler(), *shape)
    same = {
        "sphere: smallest rule, dense (spherical_grid)": grid,
        "sphere: product grid, dense": PointwisePowers(ProductGridSampler(), *shape),
        "sphere: product grid, separable": Separable(*shape),
        "torus: half of it, dense (gaunt)": PointwisePowers(TorusSampler(), *shape),
        "Fourier: FFTs of real samples": Fourier(*shape, "fft"),
        "Fourier: FFTs as published": Fourier(*shape, "published"),
        "Fourier: direct convolution": Fourier(*shape, "direct"),
    }
    others = {name: parse_product(name).product_basis(*shape) for name in options.products}
    monomials = Monomials(*shape)
    rng = np.random.default_rng(0)
    feats = jnp.asarray(rng.normal(size=(irreps_in.dim, options.nodes, options.channels)), jnp.float32)
    species = jnp.asarray(rng.integers(0, 4, options.nodes))
    weights = {
        form: jnp.asarray(rng.normal(size=(plan.num_weights, 4, options.channels)), jnp.float32)
        for form, plan in [(form, grid) for form in same.values()]
        + [(plan, plan) for plan in others.values()]
        + [(monomials, monomials.plan)]
    }
    others["cg: monomials times tables"] = monomials
    weights |= dict.fromkeys(same.values(), weights[grid])
    return same, others, lambda form: (weights[form], feats, species), (1,)


def _interactions(options: argparse.Namespace, harmonic_irreps: e3nn.Irreps, irreps_node: e3nn.Irreps) -> Case:
    def plan(name: str) -> InteractionPlan:
        return parse_product(name).interaction(irreps_node, harmonic_irreps, harmonic_irreps)

    grid = plan("spherical_grid")
    same = {"path by path, summed in blocks (spherical_grid)": grid, "edge by edge on the sphere": EdgesOnTheSphere(grid)}
    others = {name: plan(name) for name in options.products}
    rng = np.random.default_rng(0)
    receivers = np.repeat(np.arange(options.nodes), 3 * EDGE_BLOCK)
    harmonic_values = jnp.asarray(rng.normal(size=(len(receivers), harmonic_irreps.dim)), jnp.float32)
    feats = jnp.asarray(rng.normal(size=(irreps_node.dim, options.nodes, options.channels)), jnp.float32)
    senders = rng.integers(0, options.nodes, len(receivers))
    graph = harmonic_values, batch_of_edges(senders, receivers, np.ones(len(receivers), bool), options.nodes)
    count = {form: grid.num_weights for form in same.values()} | {form: form.num_weights for form in others.values()}
    most = jnp.asarray(rng.normal(size=(len(receivers), max(count.values()), options.channels)), jnp.float32)
    # Radial weights, features and harmonics all depend on positions.
    return same, others, lambda form: (most[:, : count[form]], feats, *graph), (0, 1, 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", choices=("product_basis", "interaction"), default="product_basis")
    parser.add_argument("--l-max", type=int, default=3)
    parser.add_argument("--correlation", type=int, default=3)
    parser.add_argument("--hidden-irreps", default="0e+1o")
    parser.add_argument("--nodes", type=int, default=136)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--products", nargs="*", default=["cg", "matrix", "hybrid"], help="products that are another map")
    return parser


def _check_equality(forms: dict[str, Form], arguments: Callable[[Form], tuple]) -> None:
    values = {name: np.asarray(jax.jit(form.__call__)(*arguments(form))) for name, form in forms.items()}
    reference = next(iter(values.values()))
    for name, value in values.items():
        error = np.abs(value - reference).max() / np.abs(reference).max()
        if error > 1e-4:  # float32
            raise SystemExit(f"{name} is another map: it differs by {error:.1e}")


if __name__ == "__main__":
    main()
