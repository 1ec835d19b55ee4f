"""With mace-torch itself, where it is installed: its files read, ours written for it, and what is refused.

    pip install torch mace-torch

in the environment of mace-tp; without them these tests are skipped, and `test_mace_torch.py` holds the numbers by arrays that they wrote.
"""

import os

import ase
import numpy as np
import pytest

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4 keeps slices in a file that torch >= 2.6 refuses to read
torch = pytest.importorskip("torch")
pytest.importorskip("mace")

from e3nn import o3
from mace import modules
from mace.calculators import MACECalculator
from mace.modules import lora

from mace_tp import Calculator
from mace_tp.cli.convert import main as convert
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.model.parameters import named_parameters
from mace_tp.model.saved_model import create_model, load_model, save_model
from mace_tp.tensor_products.registry import TensorProductConfig

MOLECULE = ase.Atoms("OCHH", [[1.21, 0.1, -0.2], [0.0, 0.0, 0.0], [-0.55, 0.95, 0.1], [-0.6, -0.85, 0.4]])
CRYSTAL = ase.Atoms(
    "COH", [[0.1, 0.0, 0.2], [1.6, 1.3, 0.1], [0.3, 1.5, 1.9]], cell=[[3.1, 0.2, -0.1], [0.4, 2.9, 0.3], [-0.2, 0.1, 3.4]], pbc=True
)
PLAIN = dict(
    r_max=4.0, num_bessel=4, num_polynomial_cutoff=5, max_ell=2, num_interactions=2, num_elements=3, atomic_numbers=[1, 6, 8],
    hidden_irreps=o3.Irreps("3x0e+3x1o"), MLP_irreps=o3.Irreps("4x0e"), gate=torch.nn.functional.silu, avg_num_neighbors=2.5,
    interaction_cls_first=modules.RealAgnosticInteractionBlock, interaction_cls=modules.RealAgnosticResidualInteractionBlock,
    atomic_energies=np.array([-1.5, 2.5, -0.75]), correlation=2, radial_MLP=[6, 5],
)  # fmt: skip
SCALED = {"atomic_inter_scale": 0.8, "atomic_inter_shift": -0.2}
DENSITY = {
    "interaction_cls_first": modules.interaction_classes["RealAgnosticDensityInteractionBlock"],
    "interaction_cls": modules.interaction_classes["RealAgnosticDensityResidualInteractionBlock"],
    "pair_repulsion": True,
    "distance_transform": "Agnesi",
}
ATTENTION = modules.interaction_classes["RealAgnosticAttResidualInteractionBlock"]
TWO_HEADS = {
    "heads": ["low", "high"], "atomic_energies": np.array([[-1.5, 2.5, -0.75], [-1.0, 2.0, -0.5]]),
    "atomic_inter_scale": [0.8, 0.9], "atomic_inter_shift": [-0.2, 0.1],
}  # fmt: skip
CASES = {
    "default": (modules.ScaleShiftMACE, SCALED, None),
    "foundation": (modules.ScaleShiftMACE, SCALED | DENSITY, None),
    "not scaled": (modules.MACE, {"pair_repulsion": True}, None),
    "one layer": (modules.ScaleShiftMACE, SCALED | {"num_interactions": 1}, None),
    "two heads": (modules.ScaleShiftMACE, SCALED | TWO_HEADS, "high"),
    "pseudo-vectors": (modules.ScaleShiftMACE, SCALED | {"hidden_irreps": o3.Irreps("3x0e+3x1o+3x1e"), "correlation": 3}, None),
    "pseudo-tensors": (modules.ScaleShiftMACE, SCALED | {"hidden_irreps": o3.Irreps("3x0e+3x1o+3x2o")}, None),
}


@pytest.fixture(autouse=True)
def double():
    """Whole numbers times others, as in their ZBL, are of torch's default dtype, whatever that of the model is."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _write(path, cls, changed, dtype="float64", spoil=lambda model: None):
    """A model with random weights, large enough for messages of order one."""
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    model = cls(**(PLAIN | changed))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(6 if name.startswith("interactions") and name.endswith("linear.weight") else 1)
        spoil(model)
    torch.save(model, path)
    torch.set_default_dtype(torch.float64)


def _assert_same(theirs: MACECalculator, ours: Calculator, tolerance: float):
    for atoms in (MOLECULE, CRYSTAL):
        energy = theirs.get_potential_energy(atoms)
        assert ours.get_potential_energy(atoms) == pytest.approx(energy, rel=tolerance)
        forces = theirs.get_forces(atoms)
        np.testing.assert_allclose(ours.get_forces(atoms), forces, rtol=0, atol=tolerance * max(np.abs(forces).max(), 1e-3))
    stress = theirs.get_stress(CRYSTAL)
    np.testing.assert_allclose(ours.get_stress(CRYSTAL), stress, rtol=0, atol=tolerance * np.abs(stress).max())


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_is_read_is_the_same_function_and_so_is_one_that_is_written(case, tmp_path):
    cls, changed, head = CASES[case]
    _write(tmp_path / "a.model", cls, changed)
    theirs = MACECalculator(tmp_path / "a.model", default_dtype="float64", head=head)

    convert(["mace-torch", str(tmp_path / "a.model"), str(tmp_path / "a"), "--trust", *(["--head", head] if head else [])])
    _assert_same(theirs, Calculator(tmp_path / "a"), 1e-10)

    convert(["to-mace-torch", str(tmp_path / "a"), str(tmp_path / "b.model")])
    _assert_same(MACECalculator(tmp_path / "b.model", default_dtype="float64"), Calculator(tmp_path / "a"), 1e-10)


def test_a_model_in_float32_is_the_same_to_its_rounding(tmp_path):
    _write(tmp_path / "a.model", modules.ScaleShiftMACE, SCALED | DENSITY, "float32")
    convert(["mace-torch", str(tmp_path / "a.model"), str(tmp_path / "a"), "--trust"])
    assert jax_dtype(tmp_path / "a") == "float32"
    theirs = MACECalculator(tmp_path / "a.model", default_dtype="float64")
    _assert_same(theirs, Calculator(tmp_path / "a", dtype="float64"), 1e-6)


@pytest.mark.parametrize("further", [{}, {"pair_repulsion": "zbl", "distance_transform": "agnesi", "message_normalization": "density"}])
def test_a_model_trained_in_float32_is_written_in_float64_as_it_is_evaluated_in_float64(further, statistics, tmp_path):
    shape = Architecture(cutoff=4.0, l_max=2, num_channels=4, radial_mlp=[8], num_bessel=8, readout_mlp=4, correlation=3, **further)
    save_model(tmp_path / "a", create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float32), seed=1), {})

    convert(["to-mace-torch", str(tmp_path / "a"), str(tmp_path / "a.model"), "--dtype", "float64"])

    assert next(torch.load(tmp_path / "a.model", weights_only=False).parameters()).dtype == torch.float64
    _assert_same(MACECalculator(tmp_path / "a.model", default_dtype="float64"), Calculator(tmp_path / "a", dtype="float64"), 1e-12)


def jax_dtype(path) -> str:
    return next(iter(named_parameters(load_model(path).params).values())).dtype.name


def test_a_trained_model_of_ours_goes_there_and_back(statistics, tmp_path):
    shape = Architecture(cutoff=4.0, l_max=2, num_channels=3, radial_mlp=[5], num_bessel=4, readout_mlp=3, correlation=3)
    model = create_model(shape, TensorProductConfig(), statistics, np.dtype(np.float64), seed=3)
    save_model(tmp_path / "a", model, {})

    convert(["to-mace-torch", str(tmp_path / "a"), str(tmp_path / "a.model")])
    convert(["mace-torch", str(tmp_path / "a.model"), str(tmp_path / "b"), "--trust"])

    back = load_model(tmp_path / "b")
    assert back.architecture == shape and back.statistics == statistics
    for name, value in named_parameters(model.params).items():
        np.testing.assert_allclose(named_parameters(back.params)[name], value, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "changed, arguments, message",
    [
        ({}, [], "is a pickle, which can run anything when it is read; if you trust it, add --trust"),
        (TWO_HEADS, ["--trust"], "has several heads; choose one with --head: low, high"),
        (TWO_HEADS, ["--trust", "--head", "middle"], "--head middle: no such head; there are low, high"),
        ({"radial_type": "gaussian", "apply_cutoff": False}, ["--trust"], "radial functions GaussianBasis; a cutoff that multiplies"),
        ({"gate": torch.tanh}, ["--trust"], "an activation of the last readout that is not SiLU"),
        ({"gate": None}, ["--trust"], "an activation of the last readout that is not SiLU"),
        ({"hidden_irreps": o3.Irreps("3x0e+3x0o+3x1o")}, ["--trust"], "hidden irreps 3x0e"),
        ({"correlation": [2, 3]}, ["--trust"], "another correlation in each layer"),
        ({"keep_last_layer_irreps": True}, ["--trust"], "hidden irreps 3x0e.3x1o / 3x0e.3x1o"),
        ({"interaction_cls": ATTENTION}, ["--trust"], "interactions RealAgnosticAtt"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line(changed, arguments, message, tmp_path):
    _write(tmp_path / "a.model", modules.ScaleShiftMACE, SCALED | changed)
    with pytest.raises(InputError, match=message) as error:
        convert(["mace-torch", str(tmp_path / "a.model"), str(tmp_path / "a"), *arguments])
    assert "\n" not in str(error.value) and not (tmp_path / "a").exists()


def _without_linear(model):
    del model.interactions[0].linear


def _with_another_linear(model):
    model.products[0].linear = torch.nn.Identity()


def _with_a_smaller_array(model):
    model.interactions[0].linear.weight = torch.nn.Parameter(model.interactions[0].linear.weight[1:])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda model: lora.inject_lora(model, rank=2), "layers with LoRA"),
        (_without_linear, "has no attribute 'linear'|there is no interactions.0.linear.weight"),
        (_with_another_linear, "is not built as a ScaleShiftMACE of mace-torch is"),
        (_with_a_smaller_array, r"interactions.0.linear.weight has \d+ numbers, \d+ expected"),
        (lambda model: model.interactions[0].linear.weight.fill_(np.nan), "interactions.0.linear.weight holds numbers that are not finite"),
        (lambda model: model.pair_repulsion_fn.p.fill_(6), r"pair_repulsion_fn.p is 6.0, mace-tp has 5"),
        (lambda model: model.radial_embedding.cutoff_fn.r_max.fill_(3), r"radial_embedding.cutoff_fn.r_max is 3.0, mace-tp has 4.0"),
    ],
)  # fmt: skip
def test_a_model_that_was_changed_afterwards_is_refused_in_one_line_with_its_file(spoil, message, tmp_path):
    _write(tmp_path / "a.model", modules.ScaleShiftMACE, SCALED | {"pair_repulsion": True}, spoil=spoil)
    with pytest.raises(InputError, match=f"^{tmp_path}/a.model: .*({message})") as error:
        convert(["mace-torch", str(tmp_path / "a.model"), str(tmp_path / "a"), "--trust"])
    assert "\n" not in str(error.value) and not (tmp_path / "a").exists()


def test_the_line_for_further_training_begins_where_the_model_is(tmp_path, capsys, recwarn):
    _write(tmp_path / "a.model", modules.ScaleShiftMACE, SCALED)
    recwarn.clear()
    convert(["mace-torch", str(tmp_path / "a.model"), str(tmp_path / "a"), "--trust"])
    convert(["to-mace-torch", str(tmp_path / "a"), str(tmp_path / "b.model")])
    assert f"model.init_from={tmp_path}/a model.cutoff=4.0 " in (out := capsys.readouterr().out)
    assert "data.train=FILE" in out and "data.atomic_energies=model optimizer.learning_rate=0.001 dtype=float64" in out
    assert not recwarn.list, "warnings of torch and e3nn say nothing to a user"


def test_files_that_are_no_models_are_refused(tmp_path):
    (tmp_path / "text.model").write_text("no pickle")
    torch.save({"weights": 1}, tmp_path / "dictionary.model")
    for name, message in (("text", "torch cannot read it"), ("dictionary", "holds a dict"), ("none", "no such file")):
        with pytest.raises(InputError, match=message):
            convert(["mace-torch", str(tmp_path / f"{name}.model"), str(tmp_path / "a"), "--trust"])
