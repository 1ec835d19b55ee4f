"""One step of InstaDeep's mlip, timed. Run by `benchmark_peers.py` with the Python of mlip.

The step is that of its `TrainingLoop`, the batch that of its `SingleGraphDatasetBuilder`, the optimizer its default one (AMSGrad) with
the settings of the task. Names of tensor products: `cg` or `gaunt` for the messages, `symmetric_contraction_backend` for the product basis.
"""

import ase.io
import jax
import numpy as np
from measure import Task, measure, read_task
from mlip.data import ASEAtomsReader, DatasetInfo, GraphDatasetBuilderConfig, SingleGraphDatasetBuilder
from mlip.data.graph_dataset import GraphDataset
from mlip.graph import Graph
from mlip.models import ForceField, Mace
from mlip.models.loss import MSELoss
from mlip.training import OptimizerConfig, TrainingIOHandler, TrainingLoop, TrainingLoopConfig, get_default_mlip_optimizer

_PACKAGES = ("mlip", "jax", "jaxlib", "flax", "e3nn-jax", "e3j", "optax")
_GAUNT_MESSAGES = {"cg": False, "gaunt": True}


def main() -> None:
    task = read_task()
    dataset, info = _dataset(task)
    batch = next(iter(dataset))
    force_field = _force_field(task, info)
    run = _TrainStep(task, dataset, force_field, batch) if task.kind == "train" else _EvalStep(force_field, batch)
    num_graphs = int(np.sum(batch.graph_mask()))
    counts = {
        "configurations": num_graphs,
        "atoms": int(np.sum(batch.n_node[:num_graphs])),
        "edges": int(np.sum(batch.n_edge[:num_graphs])),
        "slots": len(batch.senders),
    }
    device = jax.devices()[0]
    measure(
        task, run.step, lambda: jax.tree.leaves(run.params), graph=counts,
        device=f"{device.platform}: {device.device_kind}", packages=_PACKAGES,
    )  # fmt: skip


def _dataset(task: Task) -> tuple[GraphDataset, DatasetInfo]:
    """Graphs in the order of the file, mean energies of the elements subtracted; shapes are mlip's own choice."""
    config = GraphDatasetBuilderConfig(graph_cutoff_angstrom=task.cutoff, batch_size=task.batch_size, use_formation_energies=True)
    builder = SingleGraphDatasetBuilder(ASEAtomsReader(ase.io.read(task.data, f":{task.max_frames}")), config, dataset_info=True)
    return builder.get_dataset(), builder.dataset_info


def _force_field(task: Task, info: DatasetInfo) -> ForceField:
    if task.cutoff_power != 5:
        raise ValueError(f"mlip's polynomial envelope has p = 5, got {task.cutoff_power}")
    config = Mace.Config(
        num_layers=2,
        num_channels=task.num_channels,
        l_max=task.l_max,
        node_symmetry=task.max_degree,
        correlation=task.correlation,
        num_rbf=task.num_bessel,
        symmetric_contraction_backend=task.product_basis,
        use_gaunt_tp_message_passing=_GAUNT_MESSAGES[task.interaction],
    )
    # Where nothing else is said, it adds mean energies to those of the model, which here are subtracted from the data.
    return ForceField.from_mlip_network(Mace(config, info), seed=0)


class _TrainStep:
    """The update of mlip's training loop, on one batch again and again."""

    def __init__(self, task: Task, dataset: GraphDataset, force_field: ForceField, batch: Graph) -> None:
        optimizer = get_default_mlip_optimizer(
            OptimizerConfig(
                weight_decay=task.weight_decay, grad_norm=task.max_grad_norm, warmup_steps=0, init_learning_rate=task.learning_rate,
                peak_learning_rate=task.learning_rate, final_learning_rate=task.learning_rate,
            )
        )  # fmt: skip
        loss = MSELoss(lambda _: task.energy_weight, lambda _: task.forces_weight, lambda _: 0.0)
        config = TrainingLoopConfig(num_epochs=1, ema_decay=task.ema_decay, run_eval_at_start=False)
        loop = TrainingLoop(dataset, dataset, force_field, loss, optimizer, config, io_handler=TrainingIOHandler())
        self._step, self._state, self._batch = loop.training_step, loop.training_state, batch

    @property
    def params(self) -> dict:
        return self._state.params

    def step(self) -> float:
        self._state, metrics = jax.block_until_ready(self._step(self._state, self._batch, 1))
        return float(metrics["loss"])


class _EvalStep:
    """The compiled predictor with its parameters as an argument, as in mlip's evaluation during a training."""

    def __init__(self, force_field: ForceField, batch: Graph) -> None:
        self.params, self._batch = force_field.params, batch
        self._predict = jax.jit(force_field.predictor.apply)

    def step(self) -> float:
        graph = jax.block_until_ready(self._predict(self.params, self._batch))
        return float(np.linalg.norm(np.asarray(graph.nodes.forces)[np.asarray(self._batch.node_mask())]))


if __name__ == "__main__":
    main()
