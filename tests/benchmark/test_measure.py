"""The benchmark measures what it says: the right functions, in turn, with counts that agree with counting by hand."""

import csv
import dataclasses
import json
import time

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiler import needs_compiler
from matplotlib.image import imread

from mace_tp.benchmark import plots, report
from mace_tp.benchmark.cases import SETTINGS, Sizes, make_case
from mace_tp.benchmark.derivatives import forces, training, value
from mace_tp.benchmark.graphs import first_batch
from mace_tp.benchmark.machine import Machine, measure_machine
from mace_tp.benchmark.measure import Row, measure
from mace_tp.benchmark.timing import compile_program, time_in_turn
from mace_tp.cli.shipped import shipped_data
from mace_tp.tensor_products.cg import CG
from mace_tp.tensor_products.compiled import Compiled
from mace_tp.tensor_products.plans import BilinearPlan
from mace_tp.tensor_products.registry import parse_product

MACHINE = Machine(flops_per_second=1e11, bandwidths=((1000, 2e11), (10**6, 1e11), (10**8, 1e10)))

_OTHERS = ("gaunt", "matrix", "vector_grid", "hybrid")


@pytest.fixture(scope="module")
def sizes() -> Sizes:
    graphs = first_batch(shipped_data("ethanol/train_300K.xyz.xz"), 1, 3.0, np.float64)
    return Sizes(7, 2, "all", "0e+1o", 2, graphs, 3.0, jnp.dtype("float64"))


def test_a_slower_call_is_reported_slower():
    seconds = time_in_turn({"fast": lambda: time.sleep(0.001), "slow": lambda: time.sleep(0.004)}, repeats=5)

    assert seconds["fast"].shape == (5,)
    assert (seconds["fast"] >= 0.001).all() and (seconds["slow"] >= 0.004).all()
    assert np.median(seconds["slow"]) > 2 * np.median(seconds["fast"])


def test_calls_take_turns_and_the_first_rounds_do_not_count():
    calls = []
    time_in_turn({name: lambda name=name: calls.append(name) for name in "ABC"}, repeats=3)

    assert "".join(calls) == "ABC" * 5


def test_time_is_measured_to_the_end_of_the_computation():
    """jax returns before it has computed; a call that is waited for takes at least as long as it computes."""
    slow = jax.jit(lambda x: jax.pure_callback(lambda y: (time.sleep(0.02), y)[1], jax.ShapeDtypeStruct((3,), jnp.float32), x))
    compiled = compile_program(slow, (jnp.zeros(3, jnp.float32),))

    assert (time_in_turn({"slow": compiled.call}, repeats=2)["slow"] > 0.02).all()


@dataclasses.dataclass(frozen=True)
class SleepyPlan(BilinearPlan):
    """As `cg`, ten milliseconds later."""

    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        product = super().__call__(first, second)
        return jax.pure_callback(lambda value: (time.sleep(0.01), value)[1], jax.ShapeDtypeStruct(product.shape, product.dtype), product)


@dataclasses.dataclass(frozen=True)
class Sleepy(CG):
    """Makes that plan."""

    def bilinear(self, *irreps: e3nn.Irreps) -> SleepyPlan:
        plan = super().bilinear(*irreps)
        return SleepyPlan(plan.irreps_1, plan.irreps_2, plan.irreps_out, plan.rows)


def test_a_product_with_a_planted_sleep_is_reported_slower(sizes):
    ((cg, sleepy),) = measure(["MIMO"], {"cg": CG(), "sleepy": Sleepy()}, [1], ["value"], sizes, repeats=5)

    assert (cg.product, sleepy.product) == ("cg", "sleepy")
    assert sleepy.min_seconds > 0.01
    assert sleepy.median_seconds > cg.median_seconds
    assert report.record(sleepy, MACHINE)["us_per_dof"] > report.record(cg, MACHINE)["us_per_dof"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_forces_are_the_gradient_of_the_value(setting, sizes):
    operation = make_case(setting, CG(), 1, sizes).operation
    function, (probe, *arguments) = forces(operation)
    product, gradients = jax.jit(function)(probe, *arguments)

    def energy(arguments: list) -> float:
        return float(jnp.sum(probe * operation.function(*arguments)))

    np.testing.assert_allclose(product, operation.function(*arguments), atol=1e-12)
    assert _slope(energy, arguments, operation.moved) == pytest.approx(_projected(gradients, arguments, operation.moved), rel=1e-6)


@pytest.mark.parametrize("setting", SETTINGS)
def test_training_is_the_gradient_of_a_loss_of_value_and_forces(setting, sizes):
    operation = make_case(setting, CG(), 1, sizes).operation
    function, (probe, directions, *arguments) = training(operation)
    _, gradients = jax.jit(function)(probe, directions, *arguments)
    energy_and_forces = jax.jit(forces(operation)[0])

    def loss(arguments: list) -> float:
        product, forces = energy_and_forces(probe, *arguments)
        pairs = zip(jax.tree.leaves(forces), jax.tree.leaves(directions), strict=True)
        return float(jnp.sum(probe * product)) + sum(float(jnp.sum(force * direction)) for force, direction in pairs)

    assert _slope(loss, arguments, operation.trained) == pytest.approx(_projected(gradients, arguments, operation.trained), rel=1e-6)


def _steps(arguments: list, positions: tuple[int, ...]) -> list:
    """A random direction for the arguments at these positions, zero for the rest."""
    rng = np.random.default_rng(3)
    draw = jax.tree.map(lambda x: rng.normal(size=x.shape), list(arguments))
    return [step if i in positions else jax.tree.map(jnp.zeros_like, arguments[i]) for i, step in enumerate(draw)]


def _slope(function, arguments: list, positions: tuple[int, ...]) -> float:
    """Derivative of a function along that direction, by central differences."""
    steps = _steps(arguments, positions)
    ends = [function(jax.tree.map(lambda x, dx, h=h: x + (h * dx).astype(x.dtype), list(arguments), steps)) for h in (1e-5, -1e-5)]
    return (ends[0] - ends[1]) / 2e-5


def _projected(gradients: tuple, arguments: list, positions: tuple[int, ...]) -> float:
    """The gradient along that direction."""
    steps = [_steps(arguments, positions)[i] for i in positions]
    pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(steps), strict=True)
    return sum(float(jnp.sum(gradient * step)) for gradient, step in pairs)


def test_what_a_product_cannot_do_is_a_row_that_says_so(sizes):
    products = {name: parse_product(name) for name in ("cg", "gaunt", "matrix:degree=0")}
    rows = [row for group in measure(["SISO"], products, [1], ["value"], sizes, repeats=1) for row in group]
    lines = report.table([report.record(row, MACHINE) for row in rows])

    assert [row.note for row in rows][:2] == ["", "gaunt couples 1x1o and 1x1o to none of 1x1o+1x1e"]
    assert "degree 0 of matrix is too small" in rows[2].note
    assert lines[2].startswith("gaunt ") and "cannot: gaunt couples" in lines[2]


def test_rows_count_as_xla_does(sizes):
    """1o × 1o → 0e of `cg` is 9 products and a row of a table: 27 operations an entry, as XLA counts them."""
    ((row,),) = measure(["SIMO"], {"cg": CG()}, [1], ["value"], sizes, repeats=3)
    operations = 9 + 2 * 9 * (1 + 3 + 5)  # outputs 0e, 1e, 2e

    assert row.flops is None, "XLA evaluates a bilinear map"
    assert row.xla_flops == pytest.approx(sizes.batch * operations, rel=0.02)
    assert (row.num_entries, row.num_paths, row.dof, row.repeats) == (sizes.batch, 3, 3, 3)
    assert row.compile_seconds > 0 and row.memory_bytes > 8 * sizes.batch * (3 + 3 + 9)


@needs_compiler
@pytest.mark.parametrize("derivative", ["value", "forces"])
@pytest.mark.parametrize("setting", ["interaction", "product_basis"])
def test_operations_of_a_polynomial_are_counted_only_if_the_kernel_evaluates_it(setting, derivative, sizes):
    ((plain, compiled),) = measure([setting], {"plain": CG(), "compiled": Compiled(CG())}, [1], [derivative], sizes, repeats=1)
    harmonics, hidden = e3nn.s2_irreps(1), e3nn.Irreps(sizes.hidden_irreps)
    if setting == "interaction":
        value = sizes.graphs.num_edges * CG().interaction(hidden, harmonics, harmonics).polynomial().flops()
    else:
        value = sizes.graphs.num_nodes * CG().product_basis(harmonics, hidden, sizes.correlation).polynomial().polynomial.flops()

    assert plain.flops is None and plain.xla_flops > 0
    assert (compiled.flops == sizes.channels * value) if derivative == "value" else (compiled.flops > sizes.channels * value)
    for row in (plain, compiled):
        assert report.record(row, MACHINE)["gflop_per_second"] == pytest.approx(row.xla_flops / row.median_seconds / 1e9)
    assert compiled.xla_flops >= compiled.flops


@pytest.mark.parametrize(
    ("out", "operations"),
    [
        # A radial weight times three components, then three products and their sum. What all channels share does not count.
        ("0e", 3 * 2 + 3 * 2),
        # The same weights, then two products for each of three components.
        ("1e", 3 * 2 + 3 * 2 * 2),
    ],
)
@pytest.mark.parametrize("name", ["cg", "matrix"])
def test_operations_of_two_vectors_by_hand(name, out, operations):
    """1o × 1o → 0e and 1e, counted on paper: each term of a sum is an addition, each further factor a multiplication."""
    vector = e3nn.Irreps("1o")
    assert parse_product(name).interaction(vector, vector, e3nn.Irreps(out)).polynomial().flops() == operations


def test_numbers_that_follow_from_a_row():
    row = Row(
        "MIMO", 2, "value", "cg", num_entries=1000, num_paths=4, dof=2, median_seconds=2e-3, quartiles_seconds=(1e-3, 4e-3),
        min_seconds=1e-3, repeats=3, compile_seconds=0.5, flops=1, xla_flops=1e8, xla_bytes=10**8, moved_bytes=10**8,
        memory_bytes=10**9,
    )  # fmt: skip
    values = report.record(row, MACHINE)

    expected = {
        "median_ms": 2, "spread_ms": 1.5, "million_entries_per_second": 0.5, "gflop_per_second": 50, "flop_per_byte": 1,
        "share_of_peak": 0.5, "share_of_roof": 5, "us_per_dof": 1000, "mflop_per_dof": 50, "memory_mb": 1000, "gbyte_per_second": 50,
    }  # fmt: skip
    assert {name: pytest.approx(values[name]) for name in expected} == expected


def test_the_roof_is_the_lower_of_two():
    assert MACHINE.roof(1.0, 10**9) == 1e10 and MACHINE.roof(100.0, 10**9) == 1e11
    other = Machine(1e12, ((1000, 1e10), (10**6, 2e11), (10**8, 1e9)))
    assert MACHINE.best(other) == Machine(1e12, ((1000, 2e11), (10**6, 2e11), (10**8, 1e10)))


def test_the_roof_is_that_of_where_the_data_are():
    assert [MACHINE.bandwidth(size) for size in (10, 1000, 999_999, 10**6, 10**7, 10**9)] == [2e11, 2e11, 2e11, 1e11, 1e11, 1e10]
    noisy = Machine(1e11, ((1000, 1e10), (10**6, 1e11)))
    assert noisy.bandwidth(1000) == 1e11, "less data cannot be slower"


def test_a_product_within_the_cache_is_under_its_roof():
    """Ten operations on each of 100 kB in 1 µs: ten times what memory could deliver, half of what the cache can."""
    row = Row(
        "MIMO", 1, "value", "cg", num_entries=1, num_paths=1, dof=1, median_seconds=1e-6, quartiles_seconds=(1e-6, 1e-6), min_seconds=1e-6,
        repeats=3, compile_seconds=0.5, flops=1, xla_flops=1e4, xla_bytes=10**7, moved_bytes=10**5, memory_bytes=10**5,
    )  # fmt: skip
    assert report.record(row, MACHINE)["share_of_roof"] == pytest.approx(0.5)


@pytest.mark.slow
def test_the_machine_is_measured():
    machine = measure_machine(jnp.dtype("float32"))

    assert 1e9 < machine.flops_per_second < 1e15
    assert all(1e8 < bandwidth < 1e14 for _, bandwidth in machine.bandwidths)
    assert machine.bandwidth(machine.sizes[0]) > machine.bandwidth(machine.sizes[1]), "caches are faster than memory"


@pytest.mark.parametrize(
    ("setting", "kernel"), [*((setting, "xla") for setting in SETTINGS), ("interaction", "compiled"), ("product_basis", "compiled")]
)
@pytest.mark.parametrize("name", ["cg", "spherical_grid", *(pytest.param(name, marks=pytest.mark.slow) for name in _OTHERS)])
def test_training_is_more_than_forces_and_forces_are_more_than_the_value(name, setting, kernel, sizes):
    """By counting: nothing of what a column names is left out of its program."""
    product = parse_product(name) if kernel == "xla" else Compiled(parse_product(name))
    l_max = 2 if setting in ("SISO", "SIMO", "MIMO") else 1  # L = 1 alone couples to nothing that is kept with products of functions
    operation = make_case(setting, product, l_max, sizes).operation

    flops = [compile_program(*derivative(operation)).flops for derivative in (value, forces, training)]

    assert 0 < flops[0] < flops[1] < flops[2]


def test_files_hold_rows_and_environment(sizes, tmp_path):
    products = {name: parse_product(name) for name in ("cg", "spherical_grid")}
    groups = measure(["MIMO", "SISO"], products, [1, 2], ["value"], sizes, repeats=2)
    records = [report.record(row, MACHINE) for group in groups for row in group]
    report.write(tmp_path, records, MACHINE, {"jax": "1.2.3", "dtype": "float64"}, {"batch": 7})
    pictures = plots.draw(tmp_path, records, MACHINE, "jax 1.2.3")

    content = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert content["environment"]["jax"] == "1.2.3" and content["options"] == {"batch": 7}
    peaks = content["machine"]
    assert (peaks["peak_gflop_per_second"], peaks["copy_gbyte_per_second"], peaks["cache_gbyte_per_second"]) == (100, 10, 200)
    assert peaks["gbyte_per_second_by_bytes"]["1000000"] == 100
    assert len(content["rows"]) == 8
    with open(tmp_path / "benchmark.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and {row["jax"] for row in rows} == {"1.2.3"}
    assert rows[4]["setting"] == "SISO" and rows[5]["note"].startswith("spherical_grid couples")
    assert [path.name for path in pictures] == ["MIMO.png", "SISO.png", "roofline.png"]
    assert all(imread(path).std() > 0.01 for path in pictures)
