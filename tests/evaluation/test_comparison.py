"""Trainings side by side: seeds are one row, speed-ups are ratios of step times, and what differs is said."""

import csv
import json

import numpy as np
import pytest
import yaml
from matplotlib.image import imread
from run_directories import make_run

from mace_tp.errors import InputError
from mace_tp.evaluation import comparison_plots, comparison_table
from mace_tp.evaluation.comparison import differences_of_data, equal_seeds, find_baseline, find_runs, group_runs, other_differences


@pytest.fixture
def folder(tmp_path):
    for seed, error in enumerate([40.0, 42.0, 47.0]):
        make_run(tmp_path / "cg" / f"{seed}", seed=seed, force_rmse=error)
    make_run(tmp_path / "grid" / "0", "spherical_grid", force_rmse=50.0, step_seconds=0.01)
    make_run(tmp_path / "grid" / "rank", {"name": "spherical_grid", "rank": 2}, finished=False)
    return tmp_path


def _groups(*paths):
    return group_runs(find_runs(paths))


def test_runs_that_differ_in_their_seed_are_one_row(folder):
    groups = _groups(folder)

    assert [(group.name, group.seeds) for group in groups] == [("cg", [0, 1, 2]), ("cg/spherical_grid", [0])]
    assert len(find_runs([folder, folder / "cg"])) == 5, "each once"
    assert [run.product for run in find_runs([folder]) if run.results is None] == ["cg/spherical_grid:rank=2"]


def test_errors_are_means_and_deviations_and_times_are_ratios(folder):
    groups = _groups(folder)
    first, second = comparison_table.make_rows(groups, find_baseline(groups, None))

    assert first["valid_force_rmse"] == pytest.approx(43) and first["valid_force_rmse_std"] == pytest.approx(np.std([40, 42, 47], ddof=1))
    assert first["hot.xyz_force_rmse"] == pytest.approx(86)
    assert second["valid_force_rmse"] == 50 and second["valid_force_rmse_std"] is None
    assert (first["speed_up"], second["speed_up"]) == (1, 2)
    assert (second["step_ms"], second["gflop_per_step"], second["num_parameters"]) == (10, 1.5, 90_000)


def test_a_product_written_as_a_name_and_as_a_mapping_is_one_row(tmp_path):
    for seed, site in enumerate([{"name": "gaunt", "rank": 2}, "gaunt:rank=2"]):
        path = make_run(tmp_path / f"{seed}", seed=seed) / "config.yaml"
        config = yaml.safe_load(path.read_text()) | {"tensor_product": {"interaction": "cg", "product_basis": site}}
        path.write_text(yaml.safe_dump(config))

    assert [(group.name, group.seeds) for group in _groups(tmp_path)] == [("cg/gaunt:rank=2", [0, 1])]


def test_the_baseline_is_chosen_by_name(folder):
    groups = _groups(folder)

    assert find_baseline(groups, "cg/spherical_grid") is find_baseline(groups, "cg / spherical_grid") is groups[1]
    assert find_baseline(_groups(folder / "grid"), None) is None
    with pytest.raises(InputError, match="^--baseline gaunt: no such row; there are cg, cg/spherical_grid$"):
        find_baseline(groups, "gaunt")


def test_rows_of_one_product_are_told_apart_by_their_keys(folder):
    make_run(folder / "wide", num_channels=64)

    assert [group.name for group in _groups(folder)] == ["cg, model.num_channels=32", "cg/spherical_grid", "cg, model.num_channels=64"]
    assert "model.num_channels differs: 32 in cg, model.num_channels=32, cg/spherical_grid; 64 in cg, model.num_channels=64" in (
        other_differences(_groups(folder))
    )


def test_paths_in_names_are_short(folder):
    """A row's name holds of a path what tells it from the others."""
    for name in ("small", "large"):
        make_run(folder / "tuned" / name, "gaunt", init_from=f"/data/of/somebody/{name}/model")
    make_run(folder / "tuned" / "new", "gaunt")

    names = [group.name for group in _groups(folder / "tuned")]

    assert sorted(names) == [f"cg/gaunt, model.init_from={name}" for name in ("None", "large/model", "small/model")]


def test_test_files_of_one_name_have_a_column_each_and_paths_of_one_file_the_same(folder):
    for name, paths in (("a", ["far/hot.xyz", "near/hot.xyz"]), ("b", ["/data/far/hot.xyz", "/data/near/hot.xyz"])):
        run = make_run(folder / "tests" / name, "gaunt", seed=ord(name))
        results = json.loads((run / "results.json").read_text())
        results["test"] = {path: {"force_rmse": value} for path, value in zip(paths, (10.0, 20.0), strict=True)}
        (run / "results.json").write_text(json.dumps(results))

    (row,) = comparison_table.make_rows(_groups(folder / "tests"), None)

    assert (row["far/hot.xyz_force_rmse"], row["near/hot.xyz_force_rmse"]) == (10, 20)
    assert row["far/hot.xyz_force_rmse_std"] == 0, "of both runs"


def test_equal_seeds_are_named_and_not_averaged(tmp_path):
    for name, error in (("a", 40.0), ("b", 44.0), ("c", 44.0)):
        make_run(tmp_path / name, seed=int(name == "c"), force_rmse=error)

    (group,) = groups = _groups(tmp_path)
    (row,) = comparison_table.make_rows(groups, None)

    assert group.seeds == [0, 1] and row["seeds"] == "0 1"
    assert row["valid_force_rmse"] == 42, "of seed 0 the first, and of seed 1"
    [line] = equal_seeds(groups)
    assert line.startswith("cg has 2 runs with seed 0 (errors differ: validation force RMSE 40.00 meV/Å, validation force RMSE 44.00")
    assert f"{tmp_path}/a, {tmp_path}/b" in line
    make_run(tmp_path / "d", "gaunt"), make_run(tmp_path / "e", "gaunt")
    text = comparison_table.markdown(comparison_table.make_rows(_groups(tmp_path / "d", tmp_path / "e"), None), [])
    assert "±" not in text


def test_a_small_deviation_is_not_zero(folder):
    assert comparison_table._cell({"valid_force_rmse": 40.0, "valid_force_rmse_std": 0.013}, "valid_force_rmse") == "40.0 ± 0.01"


def test_other_data_are_noticed(folder):
    assert differences_of_data(_groups(folder)) == []
    other = make_run(folder / "other", "matrix", data="bb")

    lines = differences_of_data(_groups(folder))
    assert [line.split(":")[0] for line in lines] == ["train and valid data differ", "test data differ"]
    assert f"500 configurations bbbbbbbb in {other}" in lines[0]


@pytest.mark.parametrize(("key", "value"), [("device", "gpu: H100"), ("jax", "0.12.0"), ("threads", 8), ("dtype", "float64")])
def test_other_machines_and_versions_are_noticed(folder, key, value):
    make_run(folder / "other", "matrix", **{key: value})

    assert f"{value} in cg/matrix" in next(line for line in other_differences(_groups(folder)) if line.startswith(f"{key} differs"))


def test_other_seeds_are_noticed(folder):
    assert "seeds differ: cg [0, 1, 2]; cg/spherical_grid [0]" in other_differences(_groups(folder))
    assert other_differences(_groups(folder / "cg")) == []


def test_files_hold_everything(folder, tmp_path):
    groups = _groups(folder)
    rows = comparison_table.make_rows(groups, groups[0])
    out = tmp_path / "out"
    out.mkdir()
    comparison_table.write(out, rows, ["a remark"], groups, [])

    content = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert content["rows"] == rows and content["remarks"] == ["a remark"] and len(content["runs"]["cg"]) == 3
    with open(out / "comparison.csv", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["cg", "cg/spherical_grid"]
    text = (out / "comparison.md").read_text(encoding="utf-8").splitlines()
    assert "valid F RMSE meV/Å" in text[0] and "43.0 ± 3.6" in text[2] and text[-1] == "* a remark"
    assert len({line.count("|") for line in text[:4]}) == 1
    pictures = comparison_plots.draw(out, groups, rows)
    assert all(imread(path).std() > 0.01 and path.stat().st_size < 200_000 for path in pictures)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.json", "{", "results.json: not JSON"),
        ("results.json", "{}", "results.json: has no valid"),
        ("results.json", "[]", "results.json: has no valid"),
        ("config.yaml", "a: [", "config.yaml: cannot be read"),
        ("config.yaml", "a: 1", "config.yaml: not the configuration of a run"),
        ("config.yaml", "!!python/object/apply:os.getcwd []", "config.yaml: cannot be read"),
    ],
)
def test_damaged_files_are_one_line(folder, name, content, message):
    (folder / "cg" / "1" / name).write_text(content, encoding="utf-8")

    with pytest.raises(InputError, match=message) as caught:
        find_runs([folder])
    assert "\n" not in str(caught.value)


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_runs([tmp_path / "nothing"])
    with pytest.raises(InputError, match="contains no run"):
        find_runs([tmp_path])
