"""From the command line: direct forces, a training that goes on from them with those of the gradient, and `evaluate --conservativity`."""

import json

import pytest
import safetensors.numpy
from command import assert_one_line

DIRECT = ("model.hidden_irreps=0e+1o", "model.forces=direct", "model.num_interactions=2", "trainer.max_epochs=2", "data.test=null")


@pytest.fixture(scope="module")
def direct(run, on_molecules, tmp_path_factory):
    """The run directory of a training with direct forces."""
    run_dir = tmp_path_factory.mktemp("runs") / "direct"
    outcome = run(*on_molecules, *DIRECT, f"run_dir={run_dir}")
    assert outcome.code == 0, outcome.err
    return run_dir


def _gradient(on_molecules, direct, run_dir) -> tuple[str, ...]:
    return *on_molecules, *DIRECT, "model.forces=gradient", f"model.init_from={direct}", f"run_dir={run_dir}"


def _weights(run_dir) -> dict:
    return safetensors.numpy.load_file(run_dir / "model" / "weights.safetensors")


def test_the_results_say_which_forces(direct):
    assert json.loads((direct / "results.json").read_text())["forces"] == "direct"


@pytest.mark.slow
def test_a_training_goes_on_with_gradient_forces_and_resumes_without_the_first(run, on_molecules, direct, tmp_path):
    arguments = _gradient(on_molecules, direct, tmp_path / "run")
    # So small a learning rate that the weights stay what they were.
    outcome = run(*arguments, "optimizer.learning_rate=1e-12")
    assert outcome.code == 0, outcome.err
    assert "parameters taken; only there: forces." in outcome.out
    before, after = _weights(direct), _weights(tmp_path / "run")
    assert before.keys() > after.keys()
    assert all(abs(before[name] - value).max() < 1e-9 for name, value in after.items())

    elsewhere = [argument.replace(f"init_from={direct}", "init_from=gone") for argument in arguments]
    resumed = run(*elsewhere, "optimizer.learning_rate=1e-12", "trainer.resume=auto", "trainer.max_epochs=3")
    assert resumed.code == 0, resumed.err
    assert "continuing after epoch 2" in resumed.out


@pytest.mark.parametrize("kind", ["direct", "gradient"])
def test_conservativity_is_measured(kind, run, direct, finished, toys, tmp_path):
    model = {"direct": direct, "gradient": finished[0]}[kind]
    flags = ("--conservativity", "--conservativity-configs", "2", "--nve-steps", "20", "--nve-timestep", "0.1")

    outcome = run("evaluate", model, toys / "test.xyz", *flags, "--json", tmp_path / "out.json")

    assert outcome.code == 0, outcome.err
    content = json.loads((tmp_path / "out.json").read_text())
    measured = content["conservativity"][f"{toys}/test.xyz"]
    assert content["forces"] == kind and content["tensor_product"]["product_basis"] == {"name": "cg"}
    assert [c["num_probes"] for c in measured["configurations"]] == [9, 27], "water and ethanol, frames 0 and 3"
    assert (measured["mean"]["asymmetry"] < 1e-10) == (kind == "gradient")
    assert (measured["nve"]["asked_steps"], measured["nve"]["timestep"]) == (20, 0.1)
    assert f"conservativity of the {kind} forces" in outcome.out and "NVE: drift" in outcome.out


@pytest.mark.parametrize("flag", ["--conservativity-configs", "--nve-steps", "--nve-timestep", "--nve-temperature"])
def test_a_number_that_cannot_be_used(flag, run, finished, toys):
    assert_one_line(run("evaluate", finished[0], toys / "test.xyz", flag, "0"), f"{flag} 0", "must be positive")


def test_direct_forces_need_vectors(run, on_molecules, tmp_path):
    outcome = run(*on_molecules, "model.forces=direct", f"run_dir={tmp_path}/run")

    assert_one_line(outcome, "model.hidden_irreps=0e", "model.forces=direct", "1o")


def test_forces_of_another_name(run, on_molecules, tmp_path):
    assert_one_line(
        run(*on_molecules, "model.forces=curl", f"run_dir={tmp_path}/run"), "model.forces=curl: must be one of gradient, direct"
    )


def test_direct_forces_cannot_fit_a_stress_but_live_with_its_label(run, on_molecules, toys, tmp_path):
    data = (f"data.train={toys}/crystals.xyz", "data.valid=null", "data.valid_fraction=0.3", *DIRECT)
    arguments = (*on_molecules, *data, "data.atomic_energies=least_squares", f"run_dir={tmp_path}/run")

    assert_one_line(run(*arguments), "model.forces=direct", "crystals.xyz frame", "loss.stress_weight=0")

    outcome = run(*arguments, "loss.stress_weight=0", "loss.stage_two.stress_weight=0")
    assert outcome.code == 0, outcome.err
    assert "stress_mae" not in json.loads((tmp_path / "run" / "results.json").read_text())["valid"]


def test_a_start_that_is_not_there(run, on_molecules, tmp_path):
    outcome = run(*on_molecules, f"model.init_from={tmp_path}/nothing", f"run_dir={tmp_path}/run")

    assert_one_line(outcome, f"{tmp_path}/nothing: no model here")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_barostat_needs_the_stress_that_direct_forces_do_not_have(run, direct, make_crystal, tmp_path):
    structure = make_crystal(tmp_path / "crystal.xyz")
    assert_one_line(run("md", direct, structure, "--ensemble", "npt", "--out", tmp_path / "md"), "ensemble npt: needs the stress")
    assert not (tmp_path / "md").exists()
