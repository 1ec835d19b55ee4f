"""Every mistake of a user ends in one line that names it and what would be right, before anything is trained."""

import json
import lzma
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from ase.build import molecule
from command import assert_one_line
from toy_data import label, molecules, write

import mace_tp.cli.evaluate

# Files of structures: each writes one to the path and returns what the line must say


def _other_keys(path: Path) -> tuple[str, ...]:
    frames = molecules(2, seed=0)
    for frame in frames:
        frame.info["REF_energy"], frame.arrays["REF_forces"], frame.calc = frame.get_potential_energy(), frame.get_forces(), None
    write(path, frames)
    return "energy", "REF_energy, REF_forces", "data.energy_key=REF_energy"


def _no_forces(path: Path) -> tuple[str, ...]:
    write(path, [label(frame, "energy") for frame in molecules(2, seed=0)])
    return "no frame has forces under the key 'forces'", "keys there: energy"


def _nan_energy(path: Path) -> tuple[str, ...]:
    frames = molecules(3, seed=0)
    frames[1].calc.results["energy"] = np.nan
    write(path, frames)
    return "frame 1", "energy holds nan"


def _nan_forces(path: Path) -> tuple[str, ...]:
    frames = molecules(3, seed=0)
    frames[2].calc.results["forces"][1, 2] = np.nan
    write(path, frames)
    return "frame 2, atom 1", "forces holds nan"


def _truncated(path: Path) -> tuple[str, ...]:
    text = write(path, molecules(3, seed=0)).read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:-2]))
    return "frame 2", "1 of 3 atom lines", "truncated"


def _empty(path: Path) -> tuple[str, ...]:
    path.touch()
    return ("empty",)


def _missing(path: Path) -> tuple[str, ...]:
    return ("no such file",)


def _two_atoms_at_one_place(path: Path) -> tuple[str, ...]:
    frames = molecules(2, seed=0)
    frames[1].positions[4] = frames[1].positions[3]
    write(path, frames)
    return "frame 1", "atoms 3 (H) and 4 (H)", "same place"


def _not_text(path: Path) -> tuple[str, ...]:
    path.write_bytes(pickle.dumps({"weights": b"\xff\xfe" * 20}))
    return ("cannot be read as text",)


def _no_structures(path: Path) -> tuple[str, ...]:
    path.write_text("This is not a list of atoms.\n")
    return "frame 0 (line 1)", "expected the number of atoms"


def _only_isolated_atoms(path: Path) -> tuple[str, ...]:
    frame = label(molecule("H"), "energy", "forces")
    frame.info["config_type"] = "IsolatedAtom"
    write(path, [frame])
    return ("no configuration to train on",)


@pytest.mark.parametrize(
    "spoil",
    [
        _other_keys, _no_forces, _nan_energy, _nan_forces, _truncated, _empty, _missing, _two_atoms_at_one_place, _no_structures,
        _only_isolated_atoms, _not_text,
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["data.train", "data.valid"])
def test_a_bad_file(spoil: Callable[[Path], tuple[str, ...]], place, run, on_molecules, tmp_path):
    said = spoil(tmp_path / "bad.xyz")
    if place == "data.valid" and spoil is _only_isolated_atoms:
        said = ("no configuration to validate on",)

    outcome = run(*on_molecules, f"{place}={tmp_path}/bad.xyz", f"run_dir={tmp_path}/run")

    assert_one_line(outcome, *said)
    assert f"{tmp_path}/bad.xyz" in outcome.err
    assert not (tmp_path / "run" / "metrics.jsonl").exists(), "nothing was trained"


def test_a_truncated_archive(run, on_molecules, toys, tmp_path):
    (tmp_path / "cut.xyz.xz").write_bytes(lzma.compress((toys / "train.xyz").read_bytes())[:-50])

    outcome = run(*on_molecules, f"data.train={tmp_path}/cut.xyz.xz", f"run_dir={tmp_path}/run")

    assert_one_line(outcome, "cut.xyz.xz", "truncated")


def test_an_element_of_the_validation_set_that_is_not_trained(run, on_molecules, tmp_path):
    ammonia = write(tmp_path / "ammonia.xyz", [label(molecule("NH3"), "energy", "forces")])

    outcome = run(*on_molecules, f"data.valid={ammonia}", f"run_dir={tmp_path}/run")

    assert_one_line(outcome, "ammonia.xyz frame 0", " N", "H C O")


# The configuration


MISTAKES = {
    # misspelt keys
    "seeed=1": ["seeed: no such configuration key; did you mean seed?"],
    "model.l_mx=2": ["model.l_mx: no such configuration key; did you mean model.l_max?"],
    "modle.l_max=2": ["modle.l_max: no such configuration key; did you mean model.l_max?"],
    "loss.stage_two.strat=0.5": ["loss.stage_two.strat: no such configuration key; did you mean loss.stage_two.start?"],
    "loss.stagetwo.start=0.5": ["did you mean loss.stage_two.start?"],
    "model={l_mx:2}": ["model.l_mx: no such configuration key; did you mean model.l_max?"],
    "model.wings=2": ["model.wings: no such configuration key", "model.cutoff, model.l_max"],
    "wings=2": ["wings: no such configuration key", "data, ", "trainer"],
    "model._target_=os.system": ["model._target_: no such configuration key"],
    "+_target_=os.system": ["_target_: no such configuration key"],
    "tensor_product.interaction={name: cg, _target_: os.system}": ["tensor_product.interaction._target_: cg has no such option"],
    "+wings=2": ["wings: no such configuration key"],
    "++model.l_mx=2": ["model.l_mx: no such configuration key; did you mean model.l_max?"],
    "experimnt=ethanol": ["experimnt: no such configuration key; did you mean experiment?"],
    "tensor_prodct=cg": ["tensor_prodct: no such configuration key; did you mean tensor_product?"],
    "wings": ["wings: not an override; give KEY=VALUE"],
    # types
    "model.l_max=two": ["model.l_max", "'two'", "Integer"],
    "trainer.max_epochs=1.5": ["trainer.max_epochs", "1.5", "Integer"],
    "model.radial_mlp=3": ["model.radial_mlp", "list"],
    "seed=null": ["seed", "not Optional"],
    "data.train=[]": ["data.train=[]", "a path or a list of paths"],
    "data.train=${nowhere}": ["data.train", "'nowhere' not found"],
    # ranges and choices
    "data.batch_size=0": ["data.batch_size=0: must be positive"],
    "model.l_max=-1": ["model.l_max=-1: must not be negative"],
    "optimizer.learning_rate=nan": ["optimizer.learning_rate=nan: must be positive"],
    "data.max_configurations=-1": ["data.max_configurations=-1: must be positive"],
    "model.radial_mlp=[8, 0]": ["model.radial_mlp=[8, 0]: must be positive"],
    "optimizer.plateau_factor=-1": ["optimizer.plateau_factor=-1.0: must be positive"],
    "loss.stage_two.start=-0.5": ["loss.stage_two.start=-0.5: must not be negative"],
    "optimizer.warmup=1": ["optimizer.warmup=1.0: must be in [0, 1)"],
    "optimizer.schedule=linear": ["optimizer.schedule=linear: must be one of constant, cosine, plateau"],
    "dtype=float16": ["dtype=float16: must be one of float32, float64"],
    "kernel=wings": ["kernel=wings: must be one of auto, xla"],
    "trainer.resume=yes": ["trainer.resume=yes: must be one of null, auto"],
    "model.hidden_irreps=1o": ["model.hidden_irreps=1o: must begin with 0e"],
    "model.hidden_irreps=wings": ["model.hidden_irreps=wings: not irreps", "0e+1o"],
    "model.hidden_irreps=4x0e": ["model.hidden_irreps=4x0e", "without multiplicity"],
    "data.atomic_energies=wings": ["data.atomic_energies=wings", "isolated, least_squares, model, or a mapping"],
    "data.atomic_energies={H: -1, C: -2}": ["data.atomic_energies: no energy for O"],
    "data.config_type_weights=0.5": ["data.config_type_weights=0.5: must be a mapping of config_type to weight"],
    "data.config_type_weights={surface: -1}": ["the weight of surface must be a number from 0 to 1e+06"],
    "data.isolated_atoms=null": ["no isolated atom of H C O", "data.isolated_atoms", "least_squares"],
    "data={valid: null, valid_fraction: 0}": ["no validation set", "data.valid_fraction above 0"],
    # groups
    "data=nothere": ["data=nothere: no such configuration; valid: cu_au, ethanol"],
    "model=nothere": ["model=nothere: no such configuration; valid: large, medium"],
    "experiment=nothere": ["experiment=nothere: no such configuration; valid:", "ethanol"],
    "debug=nothere": ["debug=nothere: no such configuration; valid: tiny"],
    # tensor products
    "tensor_product=nothere": ["tensor_product=nothere: no such configuration; valid:", "cg"],
    "tensor_product.interaction=nothere": ["tensor_product.interaction=nothere: no such tensor product; valid:", "cg"],
    "tensor_product=spherical_grd": ["tensor_product=spherical_grd: no such configuration; did you mean spherical_grid? valid:"],
    "tensor_product=cg/gautn": ["tensor_product=gautn: no such tensor product; did you mean gaunt? valid:"],
    "tensor_product=spherical_grid:rank=0": ["tensor_product: rank of spherical_grid must be a whole number of at least 1, got 0"],
    "tensor_product.interaction=sphericalgrid": ["tensor_product.interaction=sphericalgrid: no such tensor product; did you mean"],
    "tensor_product.interaction=cg/gaunt": ["one product for each site; tensor_product=INTERACTION/PRODUCT_BASIS sets both"],
    "tensor_product.interaction=3": ["tensor_product.interaction=3: no such tensor product"],
    "tensor_product.interaction=[cg]": ["tensor_product.interaction=[cg]: no such tensor product"],
    "tensor_product.product_basis={name: gaunt, rnk: 2}": ["product_basis.rnk: gaunt has no such option; did you mean rank?"],
    "tensor_product.product_basis.wings=2": ["tensor_product.product_basis.wings: cg has no such option; valid:"],
    "tensor_product.interaction={name: cg, wings: 2}": ["tensor_product.interaction.wings: cg has no such option; valid:"],
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_bad_configuration(override, run, on_molecules, tmp_path):
    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", override)

    assert_one_line(outcome, *MISTAKES[override])
    assert not (tmp_path / "run" / "metrics.jsonl").exists(), "nothing was trained"


def test_a_misspelt_product_of_another_package(run, on_molecules, tmp_path, monkeypatch):
    monkeypatch.setattr("mace_tp.cli.config_errors.tensor_product_names", lambda: ["cg", "damped"])

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "tensor_product=dampd")

    assert_one_line(outcome, "tensor_product=dampd: no such configuration; did you mean damped? valid: auto, cg,", " damped, ")


def test_a_gpu_where_there_is_none(run, on_molecules, tmp_path):
    if {device.platform for device in jax.devices()} != {"cpu"}:
        pytest.skip("there is one")

    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "device=gpu")

    assert_one_line(outcome, "device=gpu", "jax finds none; it finds cpu")


def test_a_run_directory_that_cannot_be_written(run, on_molecules, tmp_path):
    (tmp_path / "file").touch()

    outcome = run(*on_molecules, f"run_dir={tmp_path}/file/run")

    assert_one_line(outcome, "run_dir", f"{tmp_path}/file", "Not a directory")


@pytest.mark.slow
def test_the_good_jobs_of_a_sweep_are_done_all_the_same(run, on_molecules, tmp_path):
    outcome = run(*on_molecules, "data.batch_size=0,2,0,-1", "-m", "trainer.max_minutes=1e-9", f"run_dir={tmp_path}")

    assert_one_line(outcome, "mace-tp train: jobs 0, 2: data.batch_size=0", "; job 3: data.batch_size=-1")
    assert not (tmp_path / "0" / "results.json").exists() and (tmp_path / "1" / "results.json").exists()


@pytest.mark.slow
def test_a_training_that_diverges(run, on_molecules, tmp_path):
    outcome = run(*on_molecules, f"run_dir={tmp_path}/run", "optimizer.learning_rate=1e30", "optimizer.schedule=constant")

    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "diverged" in outcome.err and "lower optimizer.learning_rate" in outcome.err


def test_an_unknown_command(run):
    assert_one_line(run("tarin"), "tarin: no such command", "train", "evaluate")


# Evaluation


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_other_keys, ["no frame has energy", "REF_energy"]),
        (_nan_forces, ["frame 2, atom 1", "forces holds nan"]),
        (_truncated, ["truncated"]),
        (_empty, ["empty"]),
        (_missing, ["no such file"]),
        (_two_atoms_at_one_place, ["frame 1", "same place"]),
        (_only_isolated_atoms, ["no configuration besides isolated atoms"]),
    ],
)
def test_evaluation_of_a_bad_file(spoil, said, run, finished, tmp_path):
    spoil(tmp_path / "bad.xyz")

    assert_one_line(run("evaluate", finished[0], tmp_path / "bad.xyz"), f"{tmp_path}/bad.xyz", *said)


def test_evaluation_of_an_unknown_element(run, finished, tmp_path):
    ammonia = write(tmp_path / "ammonia.xyz", [molecules(1, seed=0)[0], label(molecule("NH3"), "energy", "forces")])

    assert_one_line(run("evaluate", finished[0], ammonia), "ammonia.xyz frame 1", " N", "H C O")


def test_evaluation_under_a_key_that_is_not_there(run, finished, toys):
    outcome = run("evaluate", finished[0], toys / "test.xyz", "--energy-key", "REF_energy")

    assert_one_line(outcome, "test.xyz", "'REF_energy'", "keys there: energy, forces")


@pytest.fixture
def no_model(monkeypatch):
    """Whatever comes to reading a model comes too late."""

    def read(*_):
        raise AssertionError("the evaluation has begun")

    monkeypatch.setattr(mace_tp.cli.evaluate, "load_model", read)


@pytest.mark.parametrize(
    ("option", "place", "said"),
    [
        ("--json", "file/out", "there is no folder"),
        ("--predictions", "none/out.xyz", "there is no folder"),
        ("--predictions", "", "is a folder"),
        ("--predictions", "out.db", "must end in .extxyz or .xyz"),
        ("--predictions", "out", "must end in .extxyz or .xyz"),
        ("--plots", "file", "is a file"),
        ("--plots", "file/plots", "is a file"),
    ],
)
def test_evaluation_with_an_output_that_has_no_place_does_not_begin(option, place, said, no_model, run, toys, tmp_path):
    (tmp_path / "file").touch()

    assert_one_line(run("evaluate", tmp_path, toys / "test.xyz", option, tmp_path / place), f"{option} {tmp_path / place}: ", said)

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("option", ["--json", "--predictions"])
@pytest.mark.parametrize("other_name", [False, True], ids=["its name", "a link to it"])
def test_evaluation_never_replaces_a_file_that_it_reads(option, other_name, no_model, run, toys, tmp_path):
    shutil.copy(toys / "test.xyz", tmp_path / "mine.xyz")
    (tmp_path / "link.xyz").symlink_to(tmp_path / "mine.xyz")
    out = tmp_path / ("link.xyz" if other_name else "mine.xyz")

    assert_one_line(run("evaluate", tmp_path, toys / "valid.xyz", tmp_path / "mine.xyz", option, out), f"{option} {out}", "is read here")

    assert (tmp_path / "mine.xyz").read_bytes() == (toys / "test.xyz").read_bytes()


# Models: each spoils a copy of one


def _no_model(model: Path) -> None:
    shutil.rmtree(model)


def _no_weights(model: Path) -> None:
    (model / "weights.safetensors").unlink()


def _cut_weights(model: Path) -> None:
    weights = model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


def _no_json(model: Path) -> None:
    (model / "model.json").write_text('{"format": ')


def _other_json(model: Path) -> None:
    (model / "model.json").write_text("[1, 2]")


def _edit(model: Path, **changes: object) -> None:
    path = model / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _later_format(model: Path) -> None:
    _edit(model, format=99)


def _no_statistics(model: Path) -> None:
    _edit(model, statistics={})


def _other_architecture(model: Path) -> None:
    architecture = json.loads((model / "model.json").read_text())["architecture"]
    _edit(model, architecture=architecture | {"num_channels": 3})


def _unknown_product(model: Path) -> None:
    _edit(model, tensor_product={"interaction": "nothere", "product_basis": "cg"})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_model, ["no model here", "model.json", "weights.safetensors"]),
        (_no_weights, ["weights.safetensors"]),
        (_cut_weights, ["weights.safetensors"]),
        (_no_json, ["model.json"]),
        (_other_json, ["model.json"]),
        (_later_format, ["model.json", "format 99", "reads 1"]),
        (_no_statistics, ["model.json", "not the description of a model"]),
        (_other_architecture, ["weights.safetensors", "has shape", "needs"]),
        (_unknown_product, ["nothere", "no such tensor product"]),
    ],
)
def test_a_broken_model(spoil, said, run, finished, toys, tmp_path):
    shutil.copytree(finished[0] / "model", tmp_path / "model")
    spoil(tmp_path / "model")

    assert_one_line(run("evaluate", tmp_path / "model", toys / "test.xyz"), *said)


@pytest.mark.parametrize("name", ["model.pkl", "model.model", "model.pt"])
def test_a_model_that_could_run_code_is_not_opened(name, run, toys, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))

    assert_one_line(run("evaluate", tmp_path / name, toys / "test.xyz"), f"{tmp_path}/{name}", "not a model of mace-tp", "can run code")
    assert not (tmp_path / "exploded").exists()


def test_a_model_that_names_code_is_refused(run, finished, toys, tmp_path):
    shutil.copytree(finished[0] / "model", tmp_path / "model")
    _edit(tmp_path / "model", tensor_product={"interaction": {"name": "cg", "_target_": "os.system"}, "product_basis": "os.system"})

    assert_one_line(run("evaluate", tmp_path / "model", toys / "test.xyz"), "tensor_product.interaction._target_: cg has no such option")
