"""From the files of a configuration to graphs and statistics."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from toy_data import isolated_atoms, label, molecules, write

from mace_tp.config import Config, DataConfig, LossConfig, StageTwoConfig
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.training.datasets import Datasets, load_datasets
from mace_tp.training.provenance import provenance_of


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """`a.xyz` (6 molecules), `b.xyz` (4), `e0.xyz` (isolated H, C, O) and `mixed.xyz` (isolated atoms between molecules)."""
    folder = tmp_path_factory.mktemp("files")
    write(folder / "a.xyz", molecules(6, seed=0))
    write(folder / "b.xyz", molecules(4, seed=1))
    write(folder / "e0.xyz", isolated_atoms("H", "C", "O"))
    first, *rest = molecules(6, seed=0)
    write(folder / "mixed.xyz", [first, *isolated_atoms("C", "H", "O"), *rest])
    return folder


@pytest.fixture
def load(files) -> Callable[..., Datasets]:
    """Loads with `data.train=a.xyz`, `data.isolated_atoms=e0.xyz` and what the test says."""

    def load_with(loss: LossConfig | None = None, seed: int = 0, **data) -> Datasets:
        named = {"train": f"{files}/a.xyz", "isolated_atoms": f"{files}/e0.xyz"} | data
        return load_datasets(Config(data=DataConfig(**named), model=Architecture(cutoff=3.0), loss=loss or LossConfig(), seed=seed))

    return load_with


def energies(graphs) -> list[float]:
    return sorted(graph.interaction_energy for graph in graphs)


def test_a_share_of_the_training_set_validates(load):
    datasets = load(valid_fraction=1 / 3)

    assert (len(datasets.train), len(datasets.valid), datasets.test) == (4, 2, {})
    assert not set(energies(datasets.train)) & set(energies(datasets.valid))
    assert energies(load(valid_fraction=1 / 3).valid) == energies(datasets.valid)
    assert any(energies(load(valid_fraction=1 / 3, seed=seed).valid) != energies(datasets.valid) for seed in (1, 2, 3))


def test_a_validation_file_leaves_the_training_file_whole(load, files):
    datasets = load(valid=f"{files}/b.xyz")

    assert (len(datasets.train), len(datasets.valid)) == (6, 4)


def test_several_files_are_one_training_set(load, files):
    datasets = load(train=[f"{files}/a.xyz", f"{files}/b.xyz"], valid=[f"{files}/b.xyz"], test=[f"{files}/a.xyz", f"{files}/b.xyz"])

    assert len(datasets.train) == 10
    assert {path: len(graphs) for path, graphs in datasets.test.items()} == {f"{files}/a.xyz": 6, f"{files}/b.xyz": 4}


def test_statistics_are_of_the_training_part_alone(load, files):
    alone, with_others = load(valid=f"{files}/b.xyz"), load(valid=f"{files}/a.xyz", test=f"{files}/b.xyz")

    assert alone.statistics == with_others.statistics
    forces = np.concatenate([frame.get_forces().ravel() for frame in molecules(6, seed=0)])
    assert alone.statistics.scale == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-6)
    assert load(valid_fraction=0.5).statistics != alone.statistics


def test_isolated_atoms_in_the_training_file_give_the_energies_and_are_not_trained_on(load, files):
    apart, mixed = load(valid=f"{files}/b.xyz"), load(train=f"{files}/mixed.xyz", isolated_atoms=None, valid=f"{files}/b.xyz")

    assert len(mixed.train) == 6
    assert mixed.statistics == apart.statistics
    assert mixed.origin_of_energies == apart.origin_of_energies and "isolated atoms" in mixed.origin_of_energies


def test_a_file_of_isolated_atoms_wins_over_those_in_the_training_file(load, files, tmp_path):
    others = isolated_atoms("H", "C", "O")
    for atoms in others:
        atoms.calc.results["energy"] -= 1.0
    path = write(tmp_path / "others.xyz", others)

    mixed, apart = load(train=f"{files}/mixed.xyz"), load(train=f"{files}/mixed.xyz", isolated_atoms=str(path))

    np.testing.assert_allclose(np.subtract(mixed.statistics.atomic_energies, apart.statistics.atomic_energies), 1.0)


def test_only_so_many_configurations_of_each_file(load, files):
    datasets = load(max_configurations=3, valid=f"{files}/b.xyz", test=[f"{files}/a.xyz"])

    assert (len(datasets.train), len(datasets.valid), len(datasets.test[f"{files}/a.xyz"])) == (3, 3, 3)


def test_data_are_known_by_what_they_hold(load, files, tmp_path):
    once, again = load(valid_fraction=1 / 3), load(valid_fraction=1 / 3, seed=1)
    turned = load(train=str(write(tmp_path / "turned.xyz", molecules(6, seed=0)[::-1])), valid_fraction=1 / 3)
    others = load(train=f"{files}/b.xyz", test=f"{files}/a.xyz")
    frames = molecules(6, seed=0)
    frames[3].calc.results["forces"][0, 0] += 1e-3
    mislabelled = load(train=str(write(tmp_path / "mislabelled.xyz", frames)))

    same = once.fingerprints.train_and_valid
    assert same.configurations == 6 and once.fingerprints.valid.configurations == 2
    assert again.fingerprints.train_and_valid == turned.fingerprints.train_and_valid == same
    assert again.fingerprints.valid != once.fingerprints.valid
    assert same not in (others.fingerprints.train_and_valid, mislabelled.fingerprints.train_and_valid)
    assert others.fingerprints.test == {f"{files}/a.xyz": same}


def test_weights_by_type_are_for_training_and_validation(load, files, tmp_path, caplog):
    frames = molecules(6, seed=0)
    for frame in frames[::2]:
        frame.info |= {"config_type": "surface", "config_energy_weight": 2.0}
    path = write(tmp_path / "typed.xyz", frames)
    plain = load(train=str(path), valid_fraction=1 / 3)

    weighted = load(train=str(path), valid_fraction=1 / 3, test=str(path), config_type_weights={"Default": 3, "surface": 0.5, "bulk": 2})

    loaded = [graph.weights for graph in weighted.train + weighted.valid]
    assert sorted(loaded) == 3 * [(1.0, 0.5, 0.5)] + 3 * [(3.0, 3.0, 3.0)]
    assert [graph.weights for graph in weighted.test[str(path)]] == 3 * [(2.0, 1.0, 1.0), None]
    assert "data.config_type_weights: no frame has config_type bulk; there are Default, surface" in caplog.text
    assert weighted.fingerprints.train_and_valid != plain.fingerprints.train_and_valid
    assert weighted.statistics == plain.statistics
    resumable = [provenance_of(Config(), datasets, datasets.statistics, {})["data"] for datasets in (plain, weighted)]
    assert resumable[0]["training"]["structures_sha256"] != resumable[1]["training"]["structures_sha256"], "a resumed training notices"


def test_a_label_of_weight_zero_is_none(load, tmp_path):
    frames = molecules(6, seed=0)
    frames[0].info["config_type"] = "spoiled"
    frames[0].calc.results |= {"energy": 1e6, "forces": 1e6 + frames[0].calc.results["forces"]}
    whole, rest = write(tmp_path / "whole.xyz", frames), write(tmp_path / "rest.xyz", frames[1:])
    options = {"valid": str(rest), "config_type_weights": {"spoiled": 0}}

    spoiled = load(train=str(whole), **options)

    assert spoiled.train[0].interaction_energy is None and spoiled.train[0].forces is None
    expected = load(train=str(rest), valid=str(rest)).statistics
    assert (spoiled.statistics.scale, spoiled.statistics.shift) == (expected.scale, expected.shift)


@pytest.mark.parametrize(("place", "part"), [("train", "training"), ("valid", "validation")])
@pytest.mark.parametrize("by_type", [False, True])
def test_labels_that_all_have_weight_zero_are_refused(place, part, by_type, load, files, tmp_path):
    frames = molecules(6, seed=0)
    for frame in frames:
        frame.info |= {"config_type": "surface"} if by_type else {"config_weight": 0.0}
    places = {"train": str(files / "a.xyz"), "valid": str(files / "b.xyz")} | {place: str(write(tmp_path / "zero.xyz", frames))}
    with pytest.raises(InputError, match=f"^the energy and forces of every {part} frame has weight zero"):
        load(**places, isolated_atoms=str(files / "e0.xyz"), config_type_weights={"surface": 0} if by_type else None)


def test_a_tilde_is_the_home_directory(load, files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))

    datasets = load(train="~/a.xyz", valid="~/b.xyz", test="~/b.xyz", isolated_atoms="~/e0.xyz")

    assert (len(datasets.train), len(datasets.valid), len(datasets.test)) == (6, 4, 1)


def test_labels_are_needed_where_the_loss_looks_at_them(load, tmp_path):
    path = str(write(tmp_path / "energies.xyz", [label(frame, "energy") for frame in molecules(6, seed=0)]))
    energies_only = LossConfig(forces_weight=0.0, stage_two=StageTwoConfig(forces_weight=0.0))

    assert all(graph.forces is None for graph in load(train=path, loss=energies_only).train)
    with pytest.raises(InputError, match=r"energies\.xyz: no frame has forces under the key 'forces'; keys there: energy"):
        load(train=path)
    with pytest.raises(InputError, match="no frame has forces"):
        load(train=path, loss=dataclasses.replace(energies_only, stage_two=StageTwoConfig()))


def test_a_test_set_may_lack_labels(load, tmp_path):
    frames = molecules(2, seed=3)
    for frame in frames:
        frame.calc = None
    path = str(write(tmp_path / "bare.xyz", frames))

    assert [graph.interaction_energy for graph in load(test=path).test[path]] == [None, None]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": 3}, "data.train=3: must be a path or a list of paths"),
        ({"valid": []}, r"data.valid=\[\]: must be a path or a list of paths"),
        ({"test": ["a.xyz", None]}, "data.test=.*: must be a path or a list of paths"),
        ({"test": "nothere.xyz"}, "nothere.xyz: no such file"),
        ({"valid_fraction": 0.0}, "no validation set"),
        ({"isolated_atoms": None}, "no isolated atom of H C O"),
        ({"max_configurations": 1}, "a single configuration cannot be divided .*; give data.valid$"),
        ({"max_configurations": 1, "valid_fraction": 0.0}, "no validation set, .*; give data.valid$"),
        ({"valid": "e0.xyz"}, "data.valid=e0.xyz: no configuration to validate on"),
        ({"test": "e0.xyz"}, "data.test=e0.xyz: no configuration to test on"),
    ],
)
def test_what_cannot_be_used_is_named(data, message, load, files, monkeypatch):
    monkeypatch.chdir(files)
    with pytest.raises(InputError, match=message):
        load(**data)
