"""Weights of configurations: read as mace-torch reads them, multiplied by those of types; where they are zero, there is no label."""

import dataclasses

import ase.db
import ase.io
import numpy as np
import pytest
from toy_data import crystals

from mace_tp.data.batching import BatchLoader, are_weighted
from mace_tp.data.buckets import choose_buckets
from mace_tp.data.configuration import LabelKeys, LabelWeights
from mace_tp.data.fingerprint import fingerprint
from mace_tp.data.graphs import build_graphs
from mace_tp.data.readers import read_configurations
from mace_tp.data.report import describe_parts
from mace_tp.data.weights import weigh
from mace_tp.errors import InputError

INFO = {"config_weight": 2.0, "config_energy_weight": 0.5, "config_forces_weight": 3, "config_stress_weight": 0.0}


def _written(tmp_path, name, **info):
    """A file of two crystals, the second of which has the info."""
    first, second = crystals(2, seed=0)
    second.info |= info
    if name.endswith(".db"):
        with ase.db.connect(tmp_path / name) as database:
            database.write(first)
            database.write(second, key_value_pairs=info)
        return tmp_path / name
    ase.io.write(tmp_path / name, [first, second])
    return tmp_path / name


@pytest.mark.parametrize("name", ["a.xyz", "a.traj", "a.db"])
def test_weights_of_a_file_are_read(tmp_path, name):
    first, second = read_configurations(_written(tmp_path, name, **INFO), LabelKeys())
    assert first.weights == LabelWeights(1, 1, 1) and second.weights == LabelWeights(1.0, 6.0, 0.0)


def test_a_virial_may_have_a_weight_of_its_own(tmp_path):
    path = _written(tmp_path, "a.xyz", virial=np.eye(3), config_virials_weight=0.25)
    assert read_configurations(path, LabelKeys(stress="virial"))[1].weights == LabelWeights(1, 1, 0.25)
    assert read_configurations(path, LabelKeys())[1].weights == LabelWeights()


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "heavy", "T"])
def test_a_weight_that_is_none_is_an_error(tmp_path, value):
    path = _written(tmp_path, "a.xyz", config_forces_weight=value)
    with pytest.raises(InputError, match=r"a.xyz frame 1: config_forces_weight is .*; a weight is a number from 0 to 1e\+06"):
        read_configurations(path, LabelKeys())
    assert len(read_configurations(path, LabelKeys(), skip_bad=True)) == 1


def test_types_have_weights_and_zero_is_no_label(make_configuration):
    plain, surface = make_configuration(), make_configuration(config_type="surface")
    mixed = dataclasses.replace(surface, weights=LabelWeights(2.0, 0.0, 1.0))

    half, quarter, without = weigh([plain, surface, mixed], {"Default": 0.5, "surface": 0.25})
    (nothing,) = weigh([surface], {"surface": 0})

    assert weigh([plain], {}) == [plain] and half.weights == LabelWeights(0.5, 0.5, 0.5) and half.energy == plain.energy
    assert quarter.weights == LabelWeights(0.25, 0.25, 0.25)
    assert without.weights == LabelWeights(0.5, 0.0, 0.25) and without.energy == -14.0 and without.forces is None
    assert nothing.labels == {"energy": None, "forces": None, "stress": None}


def test_data_with_other_weights_are_other_data(make_configuration):
    plain = make_configuration()
    same, heavy = (dataclasses.replace(plain, weights=LabelWeights(energy=weight)) for weight in (1.0, 2.0))
    assert fingerprint([plain]) == fingerprint([same]) != fingerprint([heavy])


def test_batches_have_weights_where_they_are_asked_for(make_configuration):
    frames = [dataclasses.replace(make_configuration(), weights=LabelWeights(0.5, 2.0, 0.0)), make_configuration()]
    graphs = build_graphs(frames, (1, 8), (0.0, 0.0), 3.0)
    buckets = choose_buckets(graphs, 2, shuffle=False)
    (batch,) = BatchLoader(graphs, 2, buckets, np.float64, shuffle=False, weighted=True).epoch(0)
    (unweighted,) = BatchLoader(graphs, 2, buckets, np.float64, shuffle=False).epoch(0)

    assert batch.label_weights[:2].tolist() == [[0.5, 2.0, 0.0], [1.0, 1.0, 1.0]] and not batch.label_weights[2:].any()
    assert unweighted.label_weights is None and are_weighted(graphs) and not are_weighted(graphs[1:])


def test_the_report_shows_weights(tmp_path, make_configuration):
    frames = weigh(read_configurations(_written(tmp_path, "a.xyz", **INFO), LabelKeys()), {})
    text = "\n".join(describe_parts({"train": build_graphs(frames, (29,), (0.0,), 3.0)}, (29,)))
    assert "labels: energy in all, forces in all, stress in 1 (missing in 1)" in text
    weights = "energy 1, forces 1 to 6, stress 0 to 1 (zero in 1, whose labels are not used)"
    assert f"weights of their configurations in the loss: {weights}" in text
    assert "weights" not in "\n".join(describe_parts({"train": build_graphs([make_configuration()], (1, 8), (0.0, 0.0), 3.0)}, (1, 8)))
