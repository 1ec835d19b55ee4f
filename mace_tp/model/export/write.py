"""A trained model as one compiled function in a file: `jax.export` of its prediction for structures of any size."""

import importlib.metadata
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp

from mace_tp.edge_blocks import EDGE_BLOCK
from mace_tp.errors import InputError
from mace_tp.graph import single_structure
from mace_tp.model.export.load import DESCRIPTION, FORMAT, FUNCTION
from mace_tp.model.potential import Potential
from mace_tp.model.programs import make_predict
from mace_tp.model.saved_model import with_kernel
from mace_tp.runtime.devices import find_device

PLATFORMS = ("cpu", "cuda")
_INPUTS = {
    "species": "[nodes] int32: index into atomic_numbers; nodes behind the atoms are padding, at least one",
    "node_mask": "[nodes] bool: true = an atom",
    "senders": "[edges] int32",
    "receivers": f"[edges] int32, ascending, in blocks of {EDGE_BLOCK} that share one",
    "edge_vectors": "[edges, 3], Å: position of the receiver - position of the sender; subtract in float64",
    "edge_mask": "[edges] bool: true = an edge; a padded edge joins its receiver to itself",
    "cell": "[3, 3], Å, rows are lattice vectors; zero where nothing is periodic",
}
_OUTPUTS = {
    "node_energy": "[nodes], eV, without E0; meaningless in padding",
    "forces": "[nodes, 3], eV/Å",
    "stress": "[3, 3], eV/Å³, ASE's sign; zero without a cell, and for direct forces",
}


def export_model(path: Path, model: Potential, platforms: Sequence[str] = PLATFORMS) -> None:
    """Write the function and a description of its arguments as a zip archive without pickles.

    Args:
        path: of the file.
        model: to be exported.
        platforms: names of `jax.export`: cpu, cuda, rocm, tpu.

    Raises:
        InputError: the file cannot be written, or jax has no CPU.
    """
    # Plan and trace for a CPU: on a GPU cuequivariance would choose kernels that run on GPUs only.
    with jax.default_device(find_device("cpu")):
        model = with_kernel(model, "xla")  # compiled kernels run on this machine only
        function = jax.export.export(jax.jit(_function(model)), platforms=tuple(platforms))(*_shapes(model.dtype))
    statistics = model.statistics
    description = {
        "format": FORMAT,
        "cutoff": model.cutoff,
        "atomic_numbers": statistics.atomic_numbers,
        "atomic_energies": statistics.atomic_energies,
        "dtype": model.dtype.name,
        "has_stress": model.architecture.forces == "gradient",
        "platforms": list(platforms),
        "inputs": _INPUTS,
        "outputs": _OUTPUTS,
        "versions": {name: importlib.metadata.version(name) for name in ("mace-tp", "jax", "jaxlib")},
        "calling_convention": function.calling_convention_version,
    }
    try:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(FUNCTION, bytes(function.serialize()))
            archive.writestr(DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _shapes(dtype: jnp.dtype) -> list[jax.ShapeDtypeStruct]:
    """Shapes of the arguments; the numbers of nodes and of edge blocks are symbolic."""
    nodes, blocks = jax.export.symbolic_shape("nodes, blocks", constraints=["nodes >= 2", "blocks >= 1"])
    edges = EDGE_BLOCK * blocks
    shapes = [((nodes,), jnp.int32), ((nodes,), bool), ((edges,), jnp.int32), ((edges,), jnp.int32)]
    shapes += [((edges, 3), dtype), ((edges,), bool), ((3, 3), dtype)]
    return [jax.ShapeDtypeStruct(shape, kind) for shape, kind in shapes]


def _function(model: Potential) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """The function from `_INPUTS` to `_OUTPUTS`, with the parameters as constants."""
    predict = make_predict(model.graphdef)

    def function(
        species: jax.Array, node_mask: jax.Array, senders: jax.Array, receivers: jax.Array, edge_vectors: jax.Array,
        edge_mask: jax.Array, cell: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
        batch = single_structure(species, node_mask, senders, receivers, edge_vectors, edge_mask, cell)
        prediction = predict(model.params, batch)
        stress = jnp.zeros((3, 3), edge_vectors.dtype) if prediction.stress is None else prediction.stress[0]
        return prediction.node_energy, prediction.forces, stress

    return function
