"""One step of mace-tp, timed. Run by `benchmark_peers.py`."""

import ase.io
import jax
import numpy as np
from measure import Task, dynamics_step, measure, read_task

from mace_tp.cli.main import set_xla_flags
from mace_tp.config import Config, DataConfig, LossConfig
from mace_tp.data.batching import BatchLoader, choose_buckets
from mace_tp.evaluation.batches import make_eval_step
from mace_tp.graph import GraphBatch
from mace_tp.model.architecture import Architecture
from mace_tp.model.potential import Potential
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import create_model
from mace_tp.runtime.devices import set_dtype
from mace_tp.simulation.calculator import Calculator
from mace_tp.tensor_products.registry import TensorProductConfig
from mace_tp.training.datasets import Datasets, load_datasets
from mace_tp.training.loss import build_loss_weights
from mace_tp.training.optimizer import make_optimizer
from mace_tp.training.state import initial_state
from mace_tp.training.step import Control, make_train_step

_PACKAGES = ("mace-tp", "jax", "jaxlib", "flax", "e3nn-jax", "optax")


def main() -> None:
    set_xla_flags()  # as the command does
    task = read_task()
    architecture = Architecture(
        cutoff=task.cutoff, l_max=task.l_max, hidden_irreps=task.hidden_irreps, correlation=task.correlation,
        num_channels=task.num_channels, num_bessel=task.num_bessel, cutoff_power=task.cutoff_power,
    )  # fmt: skip
    # The same file twice, so that no frame is taken out for validation.
    data = DataConfig(train=task.data, valid=task.data, atomic_energies="least_squares", max_configurations=task.max_frames)
    config = Config(data=data, model=architecture, loss=LossConfig(task.energy_weight, task.forces_weight))
    dtype = set_dtype(config.dtype)
    datasets = load_datasets(config)
    product = TensorProductConfig(task.interaction, task.product_basis)
    model = create_model(architecture, product, datasets.statistics, dtype, seed=0)
    batch = _batch(task, datasets, dtype)
    runs = {
        "train": lambda: _TrainStep(task, config, model, batch),
        "evaluate": lambda: _EvalStep(model, batch),
        "dynamics": lambda: _Dynamics(task, model),
    }
    run = runs[task.kind]()
    counts = {
        "configurations": int(batch.graph_mask.sum()),
        "atoms": int(batch.node_mask.sum()),
        "edges": int(batch.edge_mask.sum()),
        "slots": batch.num_edges,
    }
    device = jax.devices()[0]
    measure(
        task, run.step, lambda: jax.tree.leaves(run.params), graph=counts,
        device=f"{device.platform}: {device.device_kind}", packages=_PACKAGES,
    )  # fmt: skip


def _batch(task: Task, datasets: Datasets, dtype: np.dtype) -> GraphBatch:
    """The first frames, in a shape that is chosen as for a training on all of them."""
    buckets = choose_buckets(datasets.train, task.batch_size)
    return next(BatchLoader(datasets.train, task.batch_size, buckets, dtype, shuffle=False).epoch(0))


class _TrainStep:
    """The update that `mace-tp train` makes, on one batch again and again."""

    def __init__(self, task: Task, config: Config, model: Potential, batch: GraphBatch) -> None:
        optimizer = make_optimizer(
            amsgrad=True, beta1=0.9, beta2=0.999, weight_decay=task.weight_decay, max_grad_norm=task.max_grad_norm
        )  # fmt: skip
        self._step = make_train_step(make_predict(model.graphdef), optimizer)
        control = Control(learning_rate=task.learning_rate, weights=build_loss_weights(config.loss), ema_decay=task.ema_decay)
        self._control, self._batch = jax.tree.map(np.float32, control), batch
        self._state = initial_state(model.params, optimizer)

    @property
    def params(self) -> dict:
        return self._state.params

    def step(self) -> float:
        self._state, loss = self._step(self._state, self._batch, self._control)
        jax.block_until_ready(self._state)
        return float(loss)


class _EvalStep:
    """Run one step of `mace-tp evaluate`: energies, forces and the sums of their errors."""

    def __init__(self, model: Potential, batch: GraphBatch) -> None:
        self.params, self._batch = model.params, batch
        self._step = make_eval_step(make_predict(model.graphdef))

    def step(self) -> float:
        prediction, _ = jax.block_until_ready(self._step(self.params, self._batch))
        return float(np.linalg.norm(prediction.forces))


class _Dynamics:
    """A step of molecular dynamics with the calculator of ASE."""

    def __init__(self, task: Task, model: Potential) -> None:
        atoms = ase.io.read(task.data, 0)
        atoms.calc = Calculator(model)
        self.params, self.step = model.params, dynamics_step(atoms)


if __name__ == "__main__":
    main()
