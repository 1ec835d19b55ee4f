"""Files of ACEsuit's mace-torch: read a pickled `ScaleShiftMACE` or `MACE` as arrays, and write one.

Both need torch and mace-torch (`pip install torch mace-torch`). Reading such a file can run any code that it contains.
"""

import dataclasses
import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import covalent_radii

from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.errors import InputError
from mace_tp.model.architecture import Architecture
from mace_tp.model.mace_torch.layout import to_theirs
from mace_tp.nn.mlp import SILU_NORMALIZATION
from mace_tp.nn.radial import AGNESI_A, AGNESI_P, AGNESI_Q, SOFT_STEEPNESS
from mace_tp.nn.repulsion import SCREENING_AMPLITUDES, SCREENING_POWER, SCREENING_PREFACTOR

# Self-connection and normalization of each interaction block.
_BLOCKS = {
    "RealAgnosticInteractionBlock": ("nonresidual", "average"),
    "RealAgnosticResidualInteractionBlock": ("residual", "average"),
    "RealAgnosticDensityInteractionBlock": ("nonresidual", "density"),
    "RealAgnosticDensityResidualInteractionBlock": ("residual", "density"),
}
_TRANSFORMS = {"AgnesiTransform": "agnesi", "SoftTransform": "soft"}
# Constants of a model in float32 are rounded to 1e-7.
_SAME = 1e-5


@dataclasses.dataclass(frozen=True)
class MaceTorchModel:
    """One head of a model of mace-torch."""

    architecture: Architecture
    statistics: DatasetStatistics
    arrays: dict[str, np.ndarray]  # parameters and U matrices by their names in the state dict, float64; elements by ascending Z
    dtype: str  # of its parameters


def read(path: Path, head: str | None) -> MaceTorchModel:
    """Read a `.model` file. The caller must trust it: the file is a pickle, and can run any code.

    Args:
        path: the file.
        head: name of the head of a model with several; None for a model with one.

    Raises:
        InputError: torch or mace-torch is missing, or the file is not a model of mace-torch that mace-tp can represent.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    torch = _import("torch")
    _import("mace.modules")
    try:
        with warnings.catch_warnings(action="ignore"):  # of TorchScript, a dozen
            model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # unpickling runs code of the file, which raises what it likes
        raise InputError(f"{path}: torch cannot read it ({type(error).__name__}: {' '.join(str(error).split())[:160]})") from error
    return describe(model, str(path), head)


def describe(model: Any, name: str, head: str | None = None) -> MaceTorchModel:
    """Describe a `ScaleShiftMACE` or `MACE` as arrays. Classes are compared by name, because they move between versions of mace-torch.

    Raises:
        InputError: it is no such model, or has parts that mace-tp lacks; the message begins with `name`.
    """
    kind = type(model).__name__
    if kind not in ("ScaleShiftMACE", "MACE"):
        raise InputError(f"{name}: holds a {kind}; ScaleShiftMACE and MACE can be read, in their plain form, which is not compiled")
    try:
        return _describe(model, name, head)
    except (AttributeError, KeyError) as error:
        raise InputError(f"{name}: is not built as a {kind} of mace-torch is ({' '.join(str(error).split())[:160]})") from error


def _describe(model: Any, name: str, head: str | None) -> MaceTorchModel:
    _require_known_parts(model, name)
    state = {key: value.detach().cpu().double().numpy() for key, value in model.state_dict().items()}
    if broken := [key for key, value in state.items() if not np.isfinite(value).all()]:
        raise InputError(f"{name}: {broken[0]} holds numbers that are not finite")
    chosen = _head(model, head, name)
    num_heads = len(_heads(model))
    architecture = _architecture(model, num_heads)
    numbers = model.atomic_numbers.cpu().numpy().astype(int)
    is_scaled = type(model).__name__ == "ScaleShiftMACE"
    statistics = DatasetStatistics(
        atomic_numbers=tuple(numbers.tolist()),
        atomic_energies=tuple(np.atleast_2d(state["atomic_energies_fn.atomic_energies"])[chosen].tolist()),
        avg_num_neighbors=float(model.interactions[0].avg_num_neighbors),
        scale=float(np.atleast_1d(state["scale_shift.scale"])[chosen]) if is_scaled else 1.0,
        shift=float(np.atleast_1d(state["scale_shift.shift"])[chosen]) if is_scaled else 0.0,
    )
    _require_same_constants(model, state, architecture, numbers, name)
    arrays = _one_head(state, architecture, chosen, num_heads)
    return MaceTorchModel(architecture, statistics, arrays, str(next(model.parameters()).dtype).removeprefix("torch."))


def write(path: Path, architecture: Architecture, statistics: DatasetStatistics, parameters: Mapping[str, np.ndarray], dtype: str) -> None:
    """Write a `ScaleShiftMACE` that mace-torch's calculator loads.

    Args:
        path: of the file.
        architecture: with gradient forces.
        statistics: of the model.
        parameters: of a `cg` model, by name.
        dtype: `float32` or `float64`.

    Raises:
        InputError: torch or mace-torch is missing, or the file cannot be written.
    """
    torch = _import("torch")
    previous = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with warnings.catch_warnings(action="ignore"):
            model = _build(architecture, statistics)
        state = model.state_dict()
        u_matrices = {name: value.double().numpy() for name, value in state.items() if "U_matrix_" in name}
        theirs = to_theirs(parameters, u_matrices, architecture, len(statistics.atomic_numbers))
        for name, parameter in model.named_parameters():
            parameter.data = torch.as_tensor(theirs.pop(name).reshape(parameter.shape), dtype=parameter.dtype)
        assert not theirs, f"mace-torch has no {', '.join(theirs)}"
        try:
            with warnings.catch_warnings(action="ignore"):
                torch.save(model, path)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: cannot be written ({' '.join(str(error).split())[:160]})") from error
    finally:
        torch.set_default_dtype(previous)


def _build(architecture: Architecture, statistics: DatasetStatistics) -> Any:
    """A `ScaleShiftMACE` with random parameters."""
    modules, o3, torch = _import("mace.modules"), _import("e3nn.o3"), _import("torch")
    names = {kind: name for name, kind in _BLOCKS.items()}
    first, others = (
        getattr(modules, names[self_connection, architecture.message_normalization])
        for self_connection in (architecture.first_interaction, architecture.other_interactions)
    )
    irreps = architecture.hidden_irreps.split("+")
    return modules.ScaleShiftMACE(
        r_max=architecture.cutoff, num_bessel=architecture.num_bessel, num_polynomial_cutoff=architecture.cutoff_power,
        max_ell=architecture.l_max, interaction_cls=others, interaction_cls_first=first, num_interactions=architecture.num_interactions,
        num_elements=len(statistics.atomic_numbers), atomic_numbers=list(statistics.atomic_numbers),
        hidden_irreps=o3.Irreps("+".join(f"{architecture.num_channels}x{irrep.strip()}" for irrep in irreps)),
        MLP_irreps=o3.Irreps(f"{architecture.readout_mlp}x0e"), gate=torch.nn.functional.silu,
        atomic_energies=np.array(statistics.atomic_energies), avg_num_neighbors=statistics.avg_num_neighbors,
        correlation=architecture.correlation, radial_MLP=list(architecture.radial_mlp), use_reduced_cg=False,
        pair_repulsion=architecture.pair_repulsion == "zbl", distance_transform=architecture.distance_transform.capitalize(),
        atomic_inter_scale=statistics.scale, atomic_inter_shift=statistics.shift,
    )  # fmt: skip


def _import(module: str) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):
            return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"models of mace-torch need torch and mace-torch: pip install torch mace-torch ({error})") from error


def _heads(model: Any) -> list[str]:
    return list(getattr(model, "heads", None) or ["Default"])


def _head(model: Any, head: str | None, name: str) -> int:
    heads = _heads(model)
    if head is None and len(heads) > 1:
        raise InputError(f"{name}: has several heads; choose one with --head: {', '.join(heads)}")
    if head is not None and head not in heads:
        raise InputError(f"{name}: --head {head}: no such head; there are {', '.join(heads)}")
    return 0 if head is None else heads.index(head)


def _require_known_parts(model: Any, name: str) -> None:
    """Raise an InputError that lists all parts of a model that mace-tp lacks."""
    blocks = [type(interaction).__name__ for interaction in model.interactions]
    contractions = [getattr(product.symmetric_contractions, "contractions", None) for product in model.products]
    hidden = [str(product.linear.irreps_out) for product in model.products]
    readouts = [type(readout).__name__ for readout in model.readouts]
    plain = ["LinearReadoutBlock"] * (len(readouts) - 1) + ["NonLinearReadoutBlock" if len(blocks) > 1 else "LinearReadoutBlock"]
    radial = model.radial_embedding
    found = {
        "layers with LoRA, whose weights are not merged": any(type(part).__name__.startswith("LoRA") for part in model.modules()),
        f"interactions {' and '.join(sorted(set(blocks)))}": any(block not in _BLOCKS for block in blocks),
        "interactions of several kinds after the first": len(set(blocks[1:])) > 1,
        "density normalization in some interactions only": len({_BLOCKS[block][1] for block in blocks if block in _BLOCKS}) > 1,
        "products in the layout of cuEquivariance (mace-torch's convert_cueq_e3nn turns them back)": None in contractions,
        "another correlation in each layer": len({len(part[0].weights) for part in contractions if part is not None}) > 1,
        "a product basis without elements": any(getattr(product, "use_agnostic_product", False) for product in model.products),
        f"hidden irreps {' / '.join(hidden)}": not _are_plain(hidden),
        f"readouts {', '.join(readouts)}": readouts != plain or len(readouts) != len(blocks),
        "an activation of the last readout that is not SiLU": len(blocks) > 1 and not _is_silu(model.readouts[-1]),
        f"radial functions {type(radial.bessel_fn).__name__}": type(radial.bessel_fn).__name__ != "BesselBasis",
        "a cutoff that multiplies the radial weights": not getattr(radial, "apply_cutoff", True),
        "elements that do not ascend": bool((np.diff(model.atomic_numbers.cpu().numpy()) <= 0).any()),
        "edge irreps": getattr(model, "edge_irreps", None) is not None,
        "harmonics of even parity": bool(getattr(model, "use_so3", False)),
        "embeddings of charge, spin and the like": hasattr(model, "joint_embedding"),
    }
    if unknown := [part for part, is_there in found.items() if is_there]:
        raise InputError(f"{name}: has parts that mace-tp does not have: {'; '.join(unknown)}")


def _are_plain(hidden: list[str]) -> bool:
    """Whether layers make `C x (each irrep once)`, scalars first, and the last one scalars only."""
    irreps = [[term.strip().split("x") for term in text.split("+")] for text in hidden]
    channels = {multiplicity for terms in irreps for multiplicity, _ in terms}
    same = all(terms == irreps[0] for terms in irreps[:-1]) and irreps[-1] == irreps[0][:1]
    names = [irrep for _, irrep in irreps[0]]
    return len(channels) == 1 and same and names[0] == "0e" and len(set(names)) == len(names) and "0o" not in names


def _is_silu(readout: Any) -> bool:
    [activation] = readout.non_linearity.acts
    return activation is not None and abs(activation.cst - SILU_NORMALIZATION) < 1e-6


def _architecture(model: Any, num_heads: int) -> Architecture:
    terms = [term.strip().split("x") for term in str(model.products[0].linear.irreps_out).split("+")]
    first, other = (_BLOCKS[type(model.interactions[i]).__name__] for i in (0, -1))
    radial, last = model.radial_embedding, model.readouts[-1]
    is_deep = len(model.interactions) > 1
    return Architecture(
        cutoff=float(model.r_max),
        l_max=max(mul_ir.ir.l for mul_ir in model.spherical_harmonics.irreps_out),
        hidden_irreps="+".join(irrep for _, irrep in terms),
        correlation=len(model.products[0].symmetric_contractions.contractions[0].weights) + 1,
        num_channels=int(terms[0][0]),
        num_interactions=len(model.interactions),
        radial_mlp=tuple(int(size) for size in model.interactions[0].conv_tp_weights.hs[1:-1]),
        num_bessel=len(radial.bessel_fn.bessel_weights),
        cutoff_power=int(radial.cutoff_fn.p),
        readout_mlp=last.hidden_irreps.dim // num_heads if is_deep else Architecture().readout_mlp,
        first_interaction=first[0],
        other_interactions=other[0] if is_deep else Architecture().other_interactions,
        message_normalization=first[1],
        distance_transform=_TRANSFORMS[type(radial.distance_transform).__name__] if hasattr(radial, "distance_transform") else "none",
        pair_repulsion="zbl" if hasattr(model, "pair_repulsion_fn") else "none",
    )


def _require_same_constants(
    model: Any, state: Mapping[str, np.ndarray], architecture: Architecture, numbers: np.ndarray, name: str
) -> None:
    """Raise an InputError if a number that is a constant in mace-tp has another value, for example because it was trained."""
    frequencies = np.pi / architecture.cutoff * np.arange(1, architecture.num_bessel + 1)
    expected: dict[str, Any] = {
        "radial_embedding.bessel_fn.bessel_weights": frequencies,
        "radial_embedding.cutoff_fn.r_max": architecture.cutoff,
    }
    transform = "radial_embedding.distance_transform"
    if architecture.distance_transform == "agnesi":
        expected |= {f"{transform}.{letter}": constant for letter, constant in zip("aqp", (AGNESI_A, AGNESI_Q, AGNESI_P), strict=True)}
    if architecture.distance_transform == "soft":
        expected[f"{transform}.alpha"] = SOFT_STEEPNESS
    if architecture.pair_repulsion == "zbl":
        expected["pair_repulsion_fn.p"] = architecture.cutoff_power
        screening = {"a_exp": SCREENING_POWER, "a_prefactor": SCREENING_PREFACTOR, "c": SCREENING_AMPLITUDES}
        expected |= {f"pair_repulsion_fn.{key}": constant for key, constant in screening.items()}
    for key, constant in expected.items():
        if not np.allclose(state[key], constant, rtol=_SAME, atol=0):
            raise InputError(f"{name}: {key} is {state[key]}, mace-tp has {constant}")
    radii = {key: values for key, values in state.items() if key.endswith("covalent_radii")}
    for key, values in radii.items():
        if not np.allclose(values[numbers], covalent_radii[numbers], rtol=_SAME, atol=0):
            raise InputError(f"{name}: {key} are not those of ASE here")
    if len({float(interaction.avg_num_neighbors) for interaction in model.interactions}) > 1:
        raise InputError(f"{name}: its layers divide by different numbers of neighbors")


def _one_head(state: Mapping[str, np.ndarray], architecture: Architecture, head: int, num_heads: int) -> dict[str, np.ndarray]:
    """The state with the readouts of one head. e3nn divides by the square root of the hidden channels of all heads, mace-tp of one head."""
    channels, width, last = architecture.num_channels, architecture.readout_mlp, architecture.num_interactions - 1
    chosen: dict[str, np.ndarray] = {}
    for layer in range(architecture.num_interactions):
        name = f"readouts.{layer}"
        if layer == last and last > 0:
            hidden = state[f"{name}.linear_1.weight"].reshape(channels, num_heads, width)
            output = state[f"{name}.linear_2.weight"].reshape(num_heads, width, num_heads)
            chosen[f"{name}.linear_1.weight"] = hidden[:, head]
            chosen[f"{name}.linear_2.weight"] = output[head, :, head] / np.sqrt(num_heads)
        else:
            chosen[f"{name}.linear.weight"] = state[f"{name}.linear.weight"].reshape(channels, num_heads)[:, head]
    return {**state, **chosen}
