"""One step of ACEsuit's mace-torch, timed. Run by `benchmark_peers.py` with the Python of mace-torch.

The model is the one that `mace_run_train --model=ScaleShiftMACE --interaction_first=RealAgnosticInteractionBlock` builds, the step its
`take_step`, the optimizer's groups those of its `get_params_options`. Its linear maps and tensor products are TorchScript by default.
"""

import argparse

import ase.io
import numpy as np
import torch
from e3nn import o3
from mace import data, modules
from mace.calculators import MACECalculator
from mace.tools import AtomicNumberTable, torch_geometric
from mace.tools.scripts_utils import get_optimizer, get_params_options
from mace.tools.train import preserve_grad_state, take_step
from mace.tools.utils import to_numpy
from measure import Task, dynamics_step, measure, num_threads, read_task
from torch_ema import ExponentialMovingAverage

_PACKAGES = ("mace-torch", "torch", "e3nn")
_DEVICE = torch.device("cpu")
_OUTPUTS = {"forces": True, "virials": False, "stress": False}


def main() -> None:
    task = read_task()
    torch.set_num_threads(num_threads())
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    frames = ase.io.read(task.data, f":{task.max_frames}")
    table = AtomicNumberTable(sorted({int(number) for atoms in frames for number in atoms.numbers}))
    graphs = [data.AtomicData.from_config(_configuration(atoms), table, task.cutoff) for atoms in frames]
    model = _build_model(task, frames, table, graphs)
    batch = next(iter(torch_geometric.dataloader.DataLoader(graphs[: task.batch_size], batch_size=task.batch_size)))
    steps = {
        "train": lambda: _train_step(task, model, batch),
        "evaluate": lambda: _eval_step(model, batch),
        "dynamics": lambda: _md(model, frames),
    }
    step = steps[task.kind]()
    counts = {
        "configurations": batch.num_graphs,
        "atoms": batch.num_nodes,
        "edges": batch.edge_index.shape[1],
        "slots": batch.edge_index.shape[1],
    }
    measure(
        task, step, lambda: [to_numpy(parameter) for parameter in model.parameters()], graph=counts,
        device=str(_DEVICE), packages=_PACKAGES,
    )  # fmt: skip


def _configuration(atoms: ase.Atoms) -> data.Configuration:
    """With the labels where ASE keeps them."""
    properties = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    weights = dict.fromkeys(properties, 1.0)
    return data.Configuration(atoms.numbers, atoms.positions, properties, weights, cell=np.array(atoms.cell), pbc=tuple(atoms.pbc))


def _build_model(task: Task, frames: list[ase.Atoms], table: AtomicNumberTable, graphs: list[data.AtomicData]) -> torch.nn.Module:
    energies = data.compute_average_E0s([_configuration(atoms) for atoms in frames], table)
    hidden = o3.Irreps([(task.num_channels, irrep.ir) for irrep in o3.Irreps(task.hidden_irreps)])
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=task.batch_size)
    mean, scale = modules.compute_mean_rms_energy_forces(loader, np.array([energies[z] for z in table.zs]))
    return modules.ScaleShiftMACE(
        r_max=task.cutoff,
        num_bessel=task.num_bessel,
        num_polynomial_cutoff=task.cutoff_power,
        max_ell=task.l_max,
        interaction_cls=modules.RealAgnosticResidualInteractionBlock,
        interaction_cls_first=modules.RealAgnosticInteractionBlock,
        num_interactions=2,
        num_elements=len(table),
        hidden_irreps=hidden,
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.array([energies[z] for z in table.zs]),
        avg_num_neighbors=modules.compute_avg_num_neighbors(loader),
        atomic_numbers=table.zs,
        correlation=task.correlation,
        gate=torch.nn.functional.silu,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=scale,
        atomic_inter_shift=mean,
    ).to(_DEVICE)


def _train_step(task: Task, model: torch.nn.Module, batch: torch_geometric.batch.Batch):
    loss = modules.WeightedEnergyForcesLoss(task.energy_weight, task.forces_weight)
    options = argparse.Namespace(
        lr=task.learning_rate, weight_decay=task.weight_decay, amsgrad=True, beta=0.9, optimizer="adam", freeze=None, lr_params_factors="{}"
    )
    optimizer = get_optimizer(options, get_params_options(options, model))
    ema = ExponentialMovingAverage(model.parameters(), decay=task.ema_decay)

    def step() -> float:
        _, metrics = take_step(model, loss, batch, optimizer, ema, _OUTPUTS, task.max_grad_norm, _DEVICE)
        return float(metrics["loss"])

    return step


def _eval_step(model: torch.nn.Module, batch: torch_geometric.batch.Batch):
    def step() -> float:
        with preserve_grad_state(model):
            output = model(batch.to_dict(), training=False, compute_force=True)
        return float(np.linalg.norm(to_numpy(output["forces"])))

    return step


def _md(model: torch.nn.Module, frames: list[ase.Atoms]):
    """A step of molecular dynamics with mace-torch's calculator of ASE."""
    atoms = frames[0].copy()
    atoms.calc = MACECalculator(models=model, device=str(_DEVICE), default_dtype="float32")
    return dynamics_step(atoms)


if __name__ == "__main__":
    main()
