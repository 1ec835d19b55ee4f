"""An exported function: the model's numbers at any size from one file, without the model's code, and files that are none."""

import dataclasses
import json
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from mace_tp.data.neighbors import neighbor_list
from mace_tp.errors import InputError
from mace_tp.model.export.load import ExportedModel, load_exported, runs_here
from mace_tp.model.export.write import export_model
from mace_tp.model.potential import Potential
from mace_tp.model.saved_model import create_model
from mace_tp.tensor_products.registry import TensorProductConfig


@pytest.fixture(scope="module")
def make(architecture, statistics):
    """Makes a small model."""

    def make(product: str = "cg", forces: str = "gradient", dtype: type = np.float64) -> Potential:
        shape = dataclasses.replace(architecture, l_max=1, correlation=2, radial_mlp=[8], forces=forces)
        return create_model(shape, TensorProductConfig(product, product), statistics, np.dtype(dtype), seed=0)

    return make


@pytest.fixture(scope="module")
def exported(make, tmp_path_factory):
    """A file, and the model in it."""
    path = tmp_path_factory.mktemp("export") / "model.export"
    model = make()
    export_model(path, model)
    return path, model


def _evaluate(function: ExportedModel, configuration, shuffled: bool = True):
    cell = configuration.cell if any(configuration.pbc) else None
    senders, receivers, shifts, _ = neighbor_list(
        configuration.positions, np.zeros((3, 3)) if cell is None else cell, configuration.pbc, function.cutoff
    )
    order = np.random.default_rng(0).permutation(len(senders)) if shuffled else slice(None)
    return function(configuration.positions, configuration.atomic_numbers, senders[order], receivers[order], shifts[order], cell)


def test_one_file_gives_the_numbers_of_the_model_for_structures_of_any_size(exported, molecule, crystal, lone_atom):
    function, model = load_exported(exported[0]), exported[1]
    many = dataclasses.replace(
        molecule,
        positions=np.concatenate([molecule.positions + 6.0 * np.array(shift) for shift in np.ndindex(2, 2, 2)]),
        atomic_numbers=np.tile(molecule.atomic_numbers, 8),
    )
    for configuration in (molecule, crystal, lone_atom, many):
        found, expected = _evaluate(function, configuration), model.evaluate(configuration)

        assert found.energy == pytest.approx(expected.energy, rel=1e-12)
        np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-10)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-11)
        if configuration is crystal:
            np.testing.assert_allclose(found.stress, expected.stress, atol=1e-12)
        else:
            assert found.stress is None
    assert np.abs(_evaluate(function, crystal).stress).max() > 1e-4


@pytest.mark.parametrize(
    "product, forces, dtype", [("spherical_grid", "gradient", np.float64), ("matrix", "gradient", np.float32), ("cg", "direct", np.float64)]
)
def test_other_products_direct_forces_and_float32_export_too(make, tmp_path, crystal, product, forces, dtype):
    model = make(product, forces, dtype)
    export_model(tmp_path / "m", model)
    found, expected = _evaluate(load_exported(tmp_path / "m"), crystal), model.evaluate(crystal)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-10 if dtype is np.float64 else 1e-4)
    assert (found.stress is None) == (forces == "direct")


def test_edges_beyond_the_cutoff_change_nothing(exported, molecule):
    function = load_exported(exported[0])
    apart = dataclasses.replace(molecule, positions=molecule.positions + np.array([[0, 0, 0], [5, 0, 0], [0, 0, 0], [0, 0, 0]]))
    pairs = np.array([pair for pair in np.ndindex(4, 4) if pair[0] != pair[1]])
    all_edges = function(apart.positions, apart.atomic_numbers, *pairs.T, np.zeros((12, 3)))
    np.testing.assert_allclose(all_edges.forces, _evaluate(function, apart).forces, atol=1e-12)


def test_a_cell_without_volume_has_no_stress(exported, molecule):
    flat = np.diag([30.0, 30.0, 0.0])
    senders, receivers, shifts, _ = neighbor_list(molecule.positions, np.zeros((3, 3)), molecule.pbc, 4.0)
    assert load_exported(exported[0])(molecule.positions, molecule.atomic_numbers, senders, receivers, shifts, flat).stress is None


def test_digits_of_float32_do_not_depend_on_place_or_extent(make, tmp_path, molecule):
    export_model(tmp_path / "m", make("cg", "gradient", np.float32))
    function = load_exported(tmp_path / "m")
    far = dataclasses.replace(molecule, positions=molecule.positions + 1e4)
    # A second molecule 20,000 Å away moves the middle; at 10,000 Å numbers of float32 are 1e-3 Å apart.
    numbers, positions = np.tile(molecule.atomic_numbers, 2), np.concatenate([molecule.positions, molecule.positions + 2e4])
    two = dataclasses.replace(molecule, atomic_numbers=numbers, positions=positions)

    alone = _evaluate(function, molecule).forces

    np.testing.assert_allclose(_evaluate(function, far).forces, alone, atol=1e-6)
    np.testing.assert_allclose(_evaluate(function, two).forces, np.tile(alone, (2, 1)), atol=1e-6)


def test_a_file_of_an_older_format_is_refused_with_the_remedy(exported, tmp_path):
    with zipfile.ZipFile(exported[0]) as old, zipfile.ZipFile(tmp_path / "old", "w") as new:
        new.writestr("function.bin", old.read("function.bin"))
        new.writestr("description.json", old.read("description.json").replace(b'"format": 2', b'"format": 1'))

    with pytest.raises(InputError, match=r"old: format 1, this version reads 2; export the model again$"):
        load_exported(tmp_path / "old")


@pytest.mark.slow
def test_on_a_machine_with_a_gpu_the_file_holds_what_every_machine_can_run(make, tmp_path, molecule, monkeypatch):
    pytest.importorskip("cuequivariance_jax")
    model = make("cuequivariance")
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        assert runs_here(["cpu", "cuda"]) and not runs_here(["cpu"])
        export_model(tmp_path / "m", model)
    assert runs_here(["cpu", "cuda"]) and not runs_here(["cuda"])
    found = _evaluate(load_exported(tmp_path / "m"), molecule)
    np.testing.assert_allclose(found.forces, model.evaluate(molecule).forces, atol=1e-11)


def test_it_runs_without_the_code_of_the_model(exported, molecule, tmp_path):
    expected = _evaluate(load_exported(exported[0]), molecule)
    senders, receivers, shifts, _ = neighbor_list(molecule.positions, np.zeros((3, 3)), molecule.pbc, 4.0)
    np.savez(tmp_path / "in.npz", p=molecule.positions, z=molecule.atomic_numbers, s=senders, r=receivers, t=shifts)
    program = f"""
import sys
rooms = ("model.mace", "nn", "tensor_products", "graph", "data")
for name in ("flax", "e3nn_jax", "optax", "ase", *(f"mace_tp.{{room}}" for room in rooms)):
    sys.modules[name] = None
import numpy as np
from mace_tp import load_exported
a = np.load({str(tmp_path / "in.npz")!r})
r = load_exported({str(exported[0])!r})(a["p"], a["z"], a["s"], a["r"], a["t"])
np.savez({str(tmp_path / "out.npz")!r}, energy=r.energy, forces=r.forces)
"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=120)
    found = np.load(tmp_path / "out.npz")
    assert found["energy"] == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found["forces"], expected.forces, atol=1e-11)


def test_the_file_says_what_its_function_takes_and_holds_no_pickle(exported):
    with zipfile.ZipFile(exported[0]) as archive:
        assert sorted(archive.namelist()) == ["description.json", "function.bin"]
        description = json.loads(archive.read("description.json"))
    assert description["cutoff"] == 4.0 and description["atomic_numbers"] == [1, 6, 8] and description["platforms"] == ["cpu", "cuda"]
    assert list(description["inputs"])[:2] == ["species", "node_mask"] and "eV/Å" in description["outputs"]["forces"]


def test_files_that_are_none_and_elements_that_it_does_not_know_are_said_in_one_line(exported, molecule, tmp_path):
    content = exported[0].read_bytes()
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(exported[0]) as archive, zipfile.ZipFile(tmp_path / "new", "w") as other:
        other.writestr("function.bin", archive.read("function.bin"))
        description = json.loads(archive.read("description.json"))
        other.writestr("description.json", json.dumps(description | {"format": 99}))
    with zipfile.ZipFile(tmp_path / "future", "w") as other:
        future = {"calling_convention": 999, "versions": {"jax": "9.9"}}
        other.writestr("description.json", json.dumps(description | future))
    with zipfile.ZipFile(tmp_path / "garbage", "w") as other:
        other.writestr("function.bin", b"\x00" * 1000)
        other.writestr("description.json", json.dumps({"format": 2, "dtype": "float32"}))
    messages = {
        "none": "no such file",
        "text": "or damaged",
        "cut": "or damaged",
        "new": "format 99, this version reads 2; a newer version of mace-tp wrote it",
        "future": f"written with jax 9.9, which jax {jax.__version__} here cannot run",
        "garbage": "damaged",
    }
    for name, message in messages.items():
        with pytest.raises(InputError, match=message) as error:
            load_exported(tmp_path / name)
        assert "\n" not in str(error.value)
    silicon = dataclasses.replace(molecule, atomic_numbers=np.array([6, 14, 1, 1]))
    with pytest.raises(InputError, match="atom 1: atomic number 14 is not one of the model's"):
        _evaluate(load_exported(exported[0]), silicon)


def test_a_result_that_is_not_finite_is_an_error(exported, lone_atom, molecule):
    far = dataclasses.replace(molecule, positions=1e200 * molecule.positions)
    senders, receivers = np.nonzero(~np.eye(4, dtype=bool))
    with pytest.raises(InputError, match="not finite"):
        load_exported(exported[0])(far.positions, far.atomic_numbers, senders, receivers, np.zeros((12, 3)))
