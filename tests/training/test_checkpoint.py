"""Checkpoints: what an optimizer that knows every parameter by itself would write, and what is left of damaged ones."""

import dataclasses
import resource
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from mace_tp.errors import InputError, TrainingError
from mace_tp.training.checkpoint import Checkpoints, Snapshot
from mace_tp.training.optimizer import decay_mask, make_optimizer
from mace_tp.training.progress import Progress
from mace_tp.training.state import TrainState, initial_state, name_moments

OPTIMIZER = make_optimizer(amsgrad=False, beta1=0.9, beta2=0.99, weight_decay=0.1, max_grad_norm=1.0)


def _parameters(seed: int) -> dict[str, jax.Array]:
    """Of equal size and equal shape, so that a wrong order shows in the values alone."""
    rng = np.random.default_rng(seed)
    shapes = {"product_basis": (3, 4), "embedding": (4, 3), "readout": (3, 4), "scale": (1,)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


def _updated(optimizer: optax.GradientTransformation) -> TrainState:
    """The state after two updates, of which clipping and decay are a good part."""
    state = initial_state(_parameters(0), optimizer)
    for seed in (1, 2):
        updates, opt_state = optimizer.update(_parameters(seed), state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    return state


def _both() -> tuple[TrainState, TrainState]:
    """Of our optimizer, and of the same one without vectors: Adam on each parameter."""
    on_trees = optax.chain(
        optax.clip_by_global_norm(1.0), optax.add_decayed_weights(0.1, mask=decay_mask), optax.scale_by_adam(0.9, 0.99), optax.scale(-1.0)
    )
    return _updated(OPTIMIZER), _updated(on_trees)


def _assert_equal(actual: TrainState, expected: TrainState) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), actual, expected)


def test_moments_have_the_names_of_their_parameters():
    ours, on_trees = _both()

    _assert_equal(name_moments(ours), on_trees)


def test_a_checkpoint_of_the_version_before_digests_continues(tmp_path):
    ours, on_trees = _both()
    with ocp.CheckpointManager(tmp_path) as manager:
        arrays = ocp.args.StandardSave({"state": on_trees, "best_params": on_trees.params})
        manager.save(3, args=ocp.args.Composite(arrays=arrays, progress=ocp.args.JsonSave({"epoch": 3})))

    restored, _ = _restored(tmp_path)

    assert restored.progress == Progress(epoch=3, num_batches=3)
    _assert_equal(restored.state, ours)


@dataclasses.dataclass
class OldProgress(Progress):
    by_clock: float = 0.5


def test_what_another_version_knew_besides_is_passed_over(tmp_path):
    ours, _ = _both()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(ours, ours.ema_params, OldProgress(epoch=1, num_batches=5, elapsed_seconds=60.0))
    checkpoints.close()

    restored, _ = _restored(tmp_path)

    assert restored.progress == Progress(epoch=1, num_batches=5, elapsed_seconds=60.0)


def test_everything_comes_back(tmp_path):
    ours, _ = _both()
    progress = Progress(2, 1, 7, [3], 0.1, 0.2, 1, 1 / 3, 2, {"factor": 0.5}, [[4, 32, 2, 17]], 3, [[2, 0]], 7.5)
    checkpoints = Checkpoints(tmp_path, {"config": {"seed": 1, "data": None}})
    checkpoints.save(ours, ours.ema_params, progress)
    checkpoints.close()

    restored, _ = _restored(tmp_path)

    assert restored.progress == progress
    assert Checkpoints(tmp_path).provenance() == {"config": {"seed": 1, "data": None}}
    jax.tree.map(np.testing.assert_array_equal, restored.state, ours)
    jax.tree.map(np.testing.assert_array_equal, restored.best_params, ours.ema_params)


# Damage


def _written(folder: Path) -> Checkpoints:
    """Two checkpoints, 1 and 2, of states that differ."""
    checkpoints = Checkpoints(folder, {"data": "toys"})
    for number in (1, 2):
        state = initial_state(_parameters(number), OPTIMIZER)
        checkpoints.save(state, state.params, Progress(epoch=number, num_batches=number))
        checkpoints.wait()
    return checkpoints


def _restored(folder: Path) -> tuple[Snapshot, list[str]]:
    """What a new process would find, and the files there are afterwards."""
    checkpoints = Checkpoints(folder)
    restored = checkpoints.restore(initial_state(_parameters(0), OPTIMIZER), _parameters(0))
    checkpoints.close()
    return restored, sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    _written(folder).close()
    return folder


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [_flip, _truncate, Path.unlink])
def test_of_a_damaged_checkpoint_nothing_is_used(damage, written, tmp_path, caplog):
    files = [path.relative_to(written) for path in (written / "2").rglob("*") if path.is_file() and path.stat().st_size]
    epochs = []
    for index, file in enumerate(files):
        folder = tmp_path / str(index)
        shutil.copytree(written, folder)
        damage(folder / file)
        caplog.clear()

        restored, names = _restored(folder)

        # A file without a part in what is restored may be damaged without harm.
        epochs.append(restored.progress.epoch)
        expected = initial_state(_parameters(restored.progress.epoch), OPTIMIZER)
        jax.tree.map(np.testing.assert_array_equal, restored.state, expected)
        assert (names == ["1", "2.damaged"] and "checkpoint 2 is damaged" in caplog.text) == (restored.progress.epoch == 1), file

    assert len(files) > 5 and 1 in epochs


def test_a_number_that_was_changed_is_damage(written, tmp_path, caplog):
    shutil.copytree(written, tmp_path / "checkpoints")
    [about] = [path for path in (tmp_path / "checkpoints" / "2" / "about").rglob("*") if path.is_file() and b"epoch" in path.read_bytes()]
    about.write_bytes(about.read_bytes().replace(b'"best_epoch": 0', b'"best_epoch": 1'))

    restored, _ = _restored(tmp_path / "checkpoints")

    assert restored.progress.epoch == 1
    assert "checkpoint 2 is damaged (its contents have changed since they were written)" in caplog.text


def test_without_a_whole_checkpoint_nothing_is_restored(written, tmp_path):
    shutil.copytree(written, tmp_path / "checkpoints")
    for path in (tmp_path / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")

    with pytest.raises(InputError, match="no checkpoint is whole and fits the model; the newest, 2"):
        _restored(tmp_path / "checkpoints")


def test_a_checkpoint_of_another_model_is_none(written):
    checkpoints = Checkpoints(written)
    other = {"embedding": jnp.zeros((2, 2))}

    with pytest.raises(InputError, match="fits the model"):
        checkpoints.restore(initial_state(other, OPTIMIZER), other)

    checkpoints.close()


def test_the_last_two_and_those_that_shall_be_kept_are_kept(tmp_path):
    state, progress = initial_state(_parameters(0), OPTIMIZER), Progress(kept=[4])
    for numbers in ((1, 2, 3, 4, 5), (6, 7, 8)):  # in two sessions
        checkpoints = Checkpoints(tmp_path)
        checkpoints.restore(state, state.params)
        for number in numbers:
            progress.num_batches = number
            checkpoints.save(state, state.params, progress)
        checkpoints.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "7", "8"]


def test_a_full_disk_is_an_error_and_keeps_what_is_there(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    large = {"weights": jnp.asarray(np.random.default_rng(0).normal(size=100_000))}
    checkpoints.save(initial_state(large, OPTIMIZER), large, Progress(epoch=1, num_batches=1))
    checkpoints.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"could not be written \(.*; complete: 1"):
            checkpoints.save(initial_state(large, OPTIMIZER), large, Progress(epoch=2, num_batches=2))
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    again = Checkpoints(tmp_path)
    assert again.restore(initial_state(large, OPTIMIZER), large).progress.epoch == 1
    again.close()
