"""Small random ScaleShiftMACE models of ACEsuit's mace-torch, evaluated in float64: the independent answers that our tests compare with.

Needs an environment of its own: `pip install torch mace-torch==0.3.16`; the package itself never imports either. Then

    python scripts/make_mace_torch_fixtures.py tests/fixtures/mace_torch

For each case a `.npz` (plain arrays) and a `.json` (hyperparameters, versions). Keys of the `.npz`:

- parameters, U matrices, E0s, scale and shift under their names in the torch state dict;
- `SYSTEM/positions [atoms, 3]`, `cell [3, 3]` (rows, Å; zero where not periodic), `pbc [3]`, `atomic_numbers`, `senders`, `receivers`,
  `shifts [edges, 3]` (Å; vector = positions[receivers] - positions[senders] + shifts), for SYSTEM in molecule, crystal, atom;
- `SYSTEM/energy` (eV, with E0s), `node_energy [atoms]`, `interaction_energy`, `forces [atoms, 3]` (eV/Å), `virials [3, 3]` (eV, -dE/dstrain),
  `stress [3, 3]` (eV/Å³, +dE/dstrain/volume, ASE's sign; crystal only), `node_feats` (outputs of the layers side by side, each block [channels, 2l+1]).

`e3nn_conventions.npz` holds `wigner_3j/L1_L2_L3` and component-normalized `harmonics [vectors, 16]` of `vectors`.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import pathlib

import numpy as np
import torch

torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 keeps slices in its table of couplings, which torch >= 2.6 refuses to load

from e3nn import o3
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric

BLOCKS = {
    ("nonresidual", "average"): modules.RealAgnosticInteractionBlock,
    ("residual", "average"): modules.RealAgnosticResidualInteractionBlock,
    ("nonresidual", "density"): modules.interaction_classes["RealAgnosticDensityInteractionBlock"],
    ("residual", "density"): modules.interaction_classes["RealAgnosticDensityResidualInteractionBlock"],
}
PER_GRAPH = ("energy", "interaction_energy", "virials", "stress")
OUTPUTS = ("energy", "node_energy", "interaction_energy", "forces", "virials", "node_feats")


@dataclasses.dataclass(frozen=True)
class Case:
    """The hyperparameters of one model; names as in mace-torch where they differ from ours."""

    hidden_irreps: str
    max_ell: int
    correlation: int
    num_interactions: int
    first_interaction: str
    seed: int
    num_bessel: int = 5
    num_polynomial_cutoff: int = 5
    r_max: float = 4.0
    radial_mlp: tuple[int, ...] = (8, 8)
    mlp_irreps: str = "5x0e"
    atomic_numbers: tuple[int, ...] = (1, 6, 8)
    atomic_energies: tuple[float, ...] = (-1.36, 2.25, -0.75)
    avg_num_neighbors: float = 3.7
    scale: float = 0.83
    shift: float = -0.21
    other_interactions: str = "residual"
    message_normalization: str = "average"
    distance_transform: str = "none"
    pair_repulsion: str = "none"
    message_gain: float = 6.0  # on the linear after the sum over edges: brings the messages to order one


CASES = {
    "vectors_correlation_3": Case("4x0e+4x1o", 3, 3, 2, "nonresidual", seed=1, message_gain=12.0),
    "tensors_residual_first": Case("3x0e+3x1o+3x2e", 2, 2, 3, "residual", seed=2),
    "scalars_correlation_3": Case("4x0e", 2, 3, 2, "nonresidual", seed=3, num_polynomial_cutoff=6, message_gain=5.0),
    "vectors_correlation_4": Case("2x0e+2x1o", 1, 4, 2, "residual", seed=4, message_gain=2.2),
    "density_agnesi_zbl": Case(
        "3x0e+3x1o",
        2,
        2,
        2,
        "nonresidual",
        seed=5,
        message_normalization="density",
        distance_transform="agnesi",
        pair_repulsion="zbl",
    ),
    "soft_nonresidual": Case("2x0e+2x1o", 2, 3, 3, "nonresidual", seed=6, other_interactions="nonresidual", distance_transform="soft"),
    "density_residual_single_layer": Case("4x0e", 2, 3, 1, "residual", seed=7, message_normalization="density", pair_repulsion="zbl"),
    # Irreps of unnatural parity reach couplings whose degrees have an odd sum.
    "pseudo_tensors": Case("3x0e+3x1o+3x2o", 2, 2, 2, "nonresidual", seed=8, message_gain=12.0),
    "pseudo_vectors": Case("2x0e+2x1o+2x1e", 3, 3, 2, "nonresidual", seed=9, message_gain=12.0),
}


def build_model(case: Case) -> modules.ScaleShiftMACE:
    """A model with random parameters of order one, so that every order of the product basis weighs in."""
    torch.manual_seed(case.seed)
    model = modules.ScaleShiftMACE(
        r_max=case.r_max,
        num_bessel=case.num_bessel,
        num_polynomial_cutoff=case.num_polynomial_cutoff,
        max_ell=case.max_ell,
        interaction_cls=BLOCKS[case.other_interactions, case.message_normalization],
        interaction_cls_first=BLOCKS[case.first_interaction, case.message_normalization],
        distance_transform=case.distance_transform.capitalize(),
        pair_repulsion=case.pair_repulsion == "zbl",
        num_interactions=case.num_interactions,
        num_elements=len(case.atomic_numbers),
        hidden_irreps=o3.Irreps(case.hidden_irreps),
        MLP_irreps=o3.Irreps(case.mlp_irreps),
        atomic_energies=np.array(case.atomic_energies),
        avg_num_neighbors=case.avg_num_neighbors,
        atomic_numbers=list(case.atomic_numbers),
        correlation=case.correlation,
        gate=torch.nn.functional.silu,
        use_reduced_cg=False,
        radial_MLP=list(case.radial_mlp),
        atomic_inter_scale=case.scale,
        atomic_inter_shift=case.shift,
    )
    enlarge_messages(model, case.message_gain)
    return model


def enlarge_messages(model: modules.ScaleShiftMACE, gain: float) -> None:
    """Multiply the messages, and undo mace-torch's division by the number of columns, which makes high orders vanish."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "contractions" in name:
                parameter.mul_(parameter.shape[1])
            if name.startswith("interactions") and name.endswith("linear.weight"):
                parameter.mul_(gain)


def configurations() -> dict[str, data.Configuration]:
    """A molecule, a strained triclinic crystal whose cell is smaller than the cutoff, and an atom alone."""
    molecule = [[0.0, 0.0, 0.0], [1.21, 0.1, -0.2], [-0.55, 0.95, 0.1], [-0.6, -0.85, 0.4], [2.3, 1.4, 0.3], [2.1, -0.9, -1.1]]
    crystal = [[0.1, 0.0, 0.2], [1.6, 1.3, 0.1], [0.3, 1.5, 1.9]]
    cell = [[3.1, 0.2, -0.1], [0.4, 2.9, 0.3], [-0.2, 0.1, 3.4]]
    return {
        "molecule": _configuration([6, 8, 1, 1, 6, 1], molecule, np.zeros((3, 3)), periodic=False),
        "crystal": _configuration([6, 8, 1], crystal, np.array(cell), periodic=True),
        "atom": _configuration([8], [[0.3, -0.2, 0.1]], np.zeros((3, 3)), periodic=False),
    }


def _configuration(atomic_numbers: list[int], positions: list[list[float]], cell: np.ndarray, periodic: bool) -> data.Configuration:
    return data.Configuration(np.array(atomic_numbers), np.array(positions), {}, {}, cell=cell, pbc=(periodic,) * 3)


def evaluate(model: modules.ScaleShiftMACE, configuration: data.Configuration, case: Case) -> dict[str, np.ndarray]:
    """Inputs, edges and outputs of one configuration, without the name of the system."""
    table = AtomicNumberTable(list(case.atomic_numbers))
    graph = data.AtomicData.from_config(configuration, table, case.r_max)
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1)))
    senders, receivers = batch.edge_index.numpy()
    arrays = {
        "positions": configuration.positions,
        "cell": configuration.cell,
        "pbc": np.array(configuration.pbc),
        "atomic_numbers": configuration.atomic_numbers,
        "senders": senders,
        "receivers": receivers,
        "shifts": batch.shifts.numpy().copy(),  # the model replaces the tensor when it strains the cell
    }
    outputs = model(batch.to_dict(), compute_force=True, compute_virials=True, compute_stress=True)
    # Where nothing is periodic mace-torch invents a cell, and its stress depends on that.
    kept = (*OUTPUTS, "stress") if any(configuration.pbc) else OUTPUTS
    values = {name: outputs[name].detach().numpy() for name in kept}
    return arrays | {name: value[0] if name in PER_GRAPH else value for name, value in values.items()}


def model_arrays(model: modules.ScaleShiftMACE) -> dict[str, np.ndarray]:
    """Parameters, U matrices, E0s, scale and shift by state-dict name."""
    parameters = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    wanted = ("U_matrix_", "atomic_energies_fn", "scale_shift")
    return parameters | {name: buffer.numpy() for name, buffer in model.named_buffers() if any(part in name for part in wanted)}


def conventions() -> dict[str, np.ndarray]:
    """The couplings of e3nn up to degree 4 and its harmonics of a few directions."""
    degrees = [(a, b, c) for a in range(5) for b in range(5) for c in range(abs(a - b), min(a + b, 4) + 1)]
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    harmonics = o3.spherical_harmonics(list(range(4)), torch.tensor(vectors), normalize=True, normalization="component")
    couplings = {f"wigner_3j/{a}_{b}_{c}": o3.wigner_3j(a, b, c).numpy() for a, b, c in degrees}
    return couplings | {"vectors": vectors, "harmonics": harmonics.numpy()}


def write_case(folder: pathlib.Path, name: str, case: Case) -> None:
    """Write `name.npz` and `name.json`."""
    model = build_model(case)
    arrays = model_arrays(model)
    for system, configuration in configurations().items():
        arrays |= {f"{system}/{key}": value for key, value in evaluate(model, configuration, case).items()}
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    versions = {package: importlib.metadata.version(package) for package in ("mace-torch", "e3nn", "torch", "matscipy")}
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    text = json.dumps(dataclasses.asdict(case) | {"num_parameters": num_parameters, "versions": versions}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the mace-torch fixtures.")
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_default_dtype(torch.float64)
    for name, case in CASES.items():
        write_case(folder, name, case)
    np.savez_compressed(folder / "e3nn_conventions.npz", **conventions())


if __name__ == "__main__":
    main()
