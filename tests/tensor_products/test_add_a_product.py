"""Products of other packages: the example of docs/add_a_product.md from nothing to a trained model, and packages that are broken."""

import dataclasses
import json
import re
import sys
import tomllib
from pathlib import Path

import e3nn_jax as e3nn
import numpy as np
import pytest
from command import TINY, run_command
from toy_data import molecules, write

from mace_tp.errors import InputError
from mace_tp.tensor_products.base import TensorProduct, UnreachableIrrep
from mace_tp.tensor_products.cg import CGInteraction
from mace_tp.tensor_products.fixed_product import FixedProduct
from mace_tp.tensor_products.plans import InteractionPlan
from mace_tp.tensor_products.registry import ENTRY_POINTS, chosen_products, own_product_names, parse_product, tensor_product_names
from mace_tp.tensor_products.testing import check_tensor_product

PAGE = (Path(__file__).parents[2] / "docs" / "add_a_product.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Installs a package of one module, as pip would: the folder of the module and its metadata is put on the path."""

    def install(module: str, code: str, entry_points: dict[str, str], package: str = "") -> None:
        folder = tmp_path / (package or module)
        metadata = folder / f"{package or module}-0.1.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code, encoding="utf-8")
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package or module}\nVersion: 0.1\n")
        lines = [f"{name} = {value}\n" for name, value in entry_points.items()]
        (metadata / "entry_points.txt").write_text("".join([f"[{ENTRY_POINTS}]\n", *lines]))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


@pytest.fixture
def damped(install) -> str:
    """Installs the example of the page; its name."""
    [project] = map(tomllib.loads, _blocks("toml"))
    [module] = project["tool"]["setuptools"]["py-modules"]
    entry_points = project["project"]["entry-points"][ENTRY_POINTS]
    install(module, _blocks("python")[0], entry_points)
    [name] = entry_points
    return name


def test_the_example_is_one_short_file():
    assert len(_blocks("python")[0].splitlines()) < 60


def test_the_example_trains(damped, tmp_path):
    train = write(tmp_path / "train.xyz", molecules(10, seed=0))
    run_dir = tmp_path / "run"

    outcome = run_command(
        "train", f"data.train={train}", "data.valid_fraction=0.2", "data.atomic_energies=least_squares", f"tensor_product={damped}",
        "trainer.max_epochs=2", f"run_dir={run_dir}", *TINY, "model.hidden_irreps=0e+1o",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    results = json.loads((run_dir / "results.json").read_text())
    assert results["tensor_product"]["interaction"] == results["tensor_product"]["product_basis"] == {"name": damped}
    evaluated = run_command("evaluate", run_dir, train)
    assert evaluated.code == 0, evaluated.err


def test_the_example_takes_its_option(damped):
    assert damped in tensor_product_names()
    assert parse_product(f"{damped}:decay=1.0").coupling(*map(e3nn.Irrep, ("1o", "1o", "2e"))) == pytest.approx(np.exp(-2))
    for value in ("-1", "abc"):
        with pytest.raises(InputError, match=f"^tensor_product.*: decay of damped must be a number of at least 0, got '?{value}'?$"):
            parse_product(f"{damped}:decay={value}")
    with pytest.raises(InputError, match="damped has no such option; did you mean decay"):
        parse_product(f"{damped}:decai=1")


@pytest.mark.parametrize("example", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_the_tests_of_the_example_pass(example, damped):
    module = {}
    exec(compile(_blocks("python")[1], "test_damped_product.py", "exec"), module)
    [test] = [function for name, function in module.items() if name.startswith("test_")]
    [parametrize] = test.pytestmark
    _, products = parametrize.args
    assert products == [parse_product(damped), *(parse_product(f"{damped}:decay={value}") for value in (0.0, 1.0))]
    test(products[example])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import not_there", "broken:Product (of broken) cannot be loaded (ModuleNotFoundError: No module named 'not_there')"),
        ("", "broken:Product (of broken) cannot be loaded (AttributeError: "),
        ("Product = 3", "broken:Product (of broken) does not inherit from mace_tp.tensor_products.base.TensorProduct"),
        (
            "import dataclasses\nfrom mace_tp.tensor_products.base import TensorProduct\n"
            "@dataclasses.dataclass(frozen=True)\nclass Product(TensorProduct):\n    pass\n",
            "broken:Product (of broken) lacks methods: interaction",
        ),
        ("def broken(:", "broken:Product (of broken) cannot be loaded (SyntaxError: "),
        ("1 / 0", "broken:Product (of broken) cannot be loaded (ZeroDivisionError: "),
        (
            "from mace_tp.tensor_products.cg import CG\nclass Product(CG):\n    pass\n",
            "broken:Product (of broken) is named 'cg'; it must be the name of its entry point: name: ClassVar[str] = 'broken'",
        ),
        (
            "from mace_tp.tensor_products.base import TensorProduct\n"
            "class Product(TensorProduct):\n    def interaction(self, *irreps): pass\n",
            "broken:Product (of broken) has no `name`; it must be the name of its entry point: name: ClassVar[str] = 'broken'",
        ),
        (
            "import dataclasses\nfrom mace_tp.tensor_products.cg import CG\n"
            "@dataclasses.dataclass(frozen=True)\nclass Product(CG):\n    name = 'broken'\n"
            "    def __post_init__(self):\n        raise TypeError('3 < three')\n",
            "broken cannot be made with its default options (TypeError: 3 < three)",
        ),
    ],
    ids=["import", "attribute", "no class", "abstract", "syntax", "any error", "another name", "no name", "constructor"],
)
def test_a_product_that_cannot_be_used_is_told_with_its_package(code, said, install):
    install("broken", code, {"broken": "broken:Product"})

    with pytest.raises(InputError) as error:
        parse_product("broken")
    assert said in str(error.value)
    assert parse_product("cg").name == "cg"


def test_a_product_that_cannot_be_used_is_left_out_of_all_products(install, caplog):
    install("broken", "import not_there", {"broken": "broken:Product"})

    products = chosen_products(None)

    assert sorted(products) == own_product_names()
    [record] = caplog.records
    assert record.getMessage().startswith("left out: ") and "broken:Product (of broken) cannot be loaded" in record.getMessage()
    with pytest.raises(InputError, match="broken:Product .* cannot be loaded"):
        chosen_products(["cg", "broken"])


def test_a_name_of_two_packages_is_refused_and_ours_come_first(install):
    for package in ("one", "two"):
        install(package, "", {"twice": f"{package}:Product", "cg": f"{package}:Product"})

    with pytest.raises(InputError, match=r"several installed packages have this product: one:Product \(of one\), two:Product \(of two\)"):
        parse_product("twice")
    assert parse_product("cg").name == "cg"


def test_a_product_that_is_not_there_is_told_with_those_that_are(damped):
    with pytest.raises(InputError, match=r"no such tensor product; did you mean damped\? valid: auto, cg, .*, damped, gaunt"):
        parse_product("dampd")


@dataclasses.dataclass(frozen=True)
class OnlyInteraction(TensorProduct):
    """Provides no more than it has to; the rest has defaults."""

    name = "only_interaction"

    def interaction(self, irreps_node: e3nn.Irreps, irreps_edge: e3nn.Irreps, irreps_keep: e3nn.Irreps) -> InteractionPlan:
        return CGInteraction(irreps_node, irreps_edge, irreps_keep)


def test_an_interaction_is_enough():
    check_tensor_product(OnlyInteraction())


@dataclasses.dataclass(frozen=True)
class NotEquivariant(FixedProduct):
    """Its table has one entry too many."""

    name = "not_equivariant"

    def coupling(self, irrep_1: e3nn.Irrep, irrep_2: e3nn.Irrep, irrep_out: e3nn.Irrep) -> float:
        return 1.0

    def table(self, irreps_1: e3nn.Irreps, irreps_2: e3nn.Irreps, irreps_out: e3nn.Irreps) -> np.ndarray:
        table = super().table(irreps_1, irreps_2, irreps_out)
        table[-1, -1, -1] += 0.1
        return table


def test_the_laws_see_a_product_that_is_not_equivariant():
    with pytest.raises(AssertionError):
        check_tensor_product(NotEquivariant())


def test_the_default_product_basis_names_what_it_cannot_reach():
    with pytest.raises(UnreachableIrrep, match="no product of up to 2 factors of .* reaches 3o with only_interaction"):
        OnlyInteraction().product_basis(e3nn.s2_irreps(1), e3nn.Irreps("0e+3o"), 2)
