"""A potential: a MACE model that can be called, on ASE's atoms or on a padded batch."""

import dataclasses
import functools
from typing import Any

import ase
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from mace_tp.data.atoms import configuration_of
from mace_tp.data.batching import pad_batch
from mace_tp.data.buckets import Bucket, padded_shape
from mace_tp.data.configuration import Configuration
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.graphs import NO_VOLUME, Graph
from mace_tp.data.validation import check_configuration
from mace_tp.data.verlet import VerletList
from mace_tp.graph import GraphBatch
from mace_tp.model.architecture import Architecture
from mace_tp.model.parameters import Params
from mace_tp.model.prediction import Prediction
from mace_tp.model.programs import CompiledStep, make_hessian_product, make_predict
from mace_tp.runtime.forked import refuse_fork
from mace_tp.tensor_products.registry import TensorProductConfig

# Å. Neighbors are not searched again while atoms move less than half of the skin; with a wider skin every step checks more candidates.
_SKIN = 1.0
# Padded shapes leave 15 % headroom in edges, because the number of neighbors fluctuates along a trajectory.
_HEADROOM = 1.15
# A structure uses a compiled shape if padding is at most this share of the shape; otherwise a new shape is compiled.
_MOST_PADDING = 0.5


@dataclasses.dataclass(frozen=True)
class StructurePrediction:
    """Energy, forces and stress of one structure, float64 on the host."""

    energy: float  # eV, E0s included
    energies: np.ndarray  # share of each atom, its E0 included [atoms], eV
    forces: np.ndarray  # [atoms, 3], eV/Å
    stress: np.ndarray | None  # [3, 3], eV/Å³, ASE's sign; None with direct forces, and for a cell without volume


@dataclasses.dataclass(frozen=True, eq=False)
class Potential:
    """A MACE model as a function of a structure: `potential(atoms)` for ASE's atoms, `potential.predict(batch)` for a padded batch.

    `mace_tp.load` reads one from a run directory, `create_model` makes one with random parameters. A potential does not change: `astype`
    and `dataclasses.replace` return another one. Programs are compiled once for each padded shape and kept with the potential. Copies and
    pickles hold the parameters and compile anew.
    """

    graphdef: nnx.GraphDef  # structure of the `MACE`
    params: Params  # its parameters
    architecture: Architecture
    tensor_product: TensorProductConfig  # of both sites
    statistics: DatasetStatistics  # of the training data: elements, E0s, scale and shift

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of the elements that the model knows, ascending."""
        return self.statistics.atomic_numbers

    @property
    def cutoff(self) -> float:
        """Largest length of an edge, Å."""
        return self.architecture.cutoff

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the parameters."""
        return jax.tree.leaves(self.params)[0].dtype

    @property
    def num_parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    def astype(self, dtype: DTypeLike) -> "Potential":
        """The same model with parameters of another dtype. jax must have float64 switched on for it."""
        refuse_fork()
        return dataclasses.replace(self, params=jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.params))

    def __call__(self, atoms: ase.Atoms) -> StructurePrediction:
        """Energy (eV), forces (eV/Å) and stress (eV/Å³) of ASE's atoms, whose calculator and constraints are ignored.

        Consecutive structures that are alike share the search for neighbors, and those of like size the compiled program.

        Raises:
            InputError: an element that the model does not know, a cell or positions that cannot be used, or this process was forked
                after jax was used.
        """
        return self.evaluate(_checked(atoms))

    def evaluate(self, configuration: Configuration) -> StructurePrediction:
        """The same for a configuration that `check_configuration` accepts."""
        return self._evaluator(configuration)

    def predict(self, batch: GraphBatch) -> Prediction:
        """Interaction energies (eV, without E0s), forces (eV/Å) and stresses (eV/Å³) of a padded batch, on the device.

        `make_predict(potential.graphdef)` is the same as a pure function of parameters and batch, to be differentiated or compiled as part
        of another program.

        Args:
            batch: as `mace_tp.data.batching.pad_batch` makes it, in the dtype of the potential.
        """
        return self._program(self.params, batch)

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Second derivatives of the energy by the positions [3 atoms, 3 atoms], eV/Å²; x, y, z of the first atom come first.

        In a periodic structure all images of an atom move together (phonons at q = 0). For direct forces this is the Hessian of the energy,
        not the Jacobian of the forces. Each column takes one program of reverse over reverse derivatives.

        Raises:
            InputError: as for a call.
        """
        return self._evaluator.hessian(_checked(atoms))

    @functools.cached_property
    def _program(self) -> CompiledStep:
        return CompiledStep(make_predict(self.graphdef), "energy and forces")

    @functools.cached_property
    def _evaluator(self) -> "StructureEvaluator":
        return StructureEvaluator(self, self._program)

    def __getstate__(self) -> dict[str, Any]:
        # numpy arrays: unpickled jax arrays would be made before float64 is switched on, and could not be made in a forked process.
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"params": jax.device_get(self.params)}


class StructureEvaluator:
    """Evaluates structures one by one. It keeps neighbors while a structure moves little, and programs while its size stays similar.

    Args:
        potential: to be evaluated.
        program: (parameters, batch) → prediction; evaluators of potentials that differ only in their parameters may share one.
        verlet: searches neighbors; evaluators of potentials with the same elements and cutoff may share one.
    """

    def __init__(self, potential: Potential, program: CompiledStep | None = None, verlet: VerletList | None = None) -> None:
        self._potential = potential
        self.program = program or CompiledStep(make_predict(potential.graphdef), "energy and forces")
        self.verlet = verlet or VerletList(potential.elements, potential.cutoff, _SKIN)
        self._atomic_energies = np.asarray(potential.statistics.atomic_energies, np.float64)
        self._dtype = potential.dtype
        self._buckets: list[Bucket] = []

    @property
    def num_compilations(self) -> int:
        return self.program.num_compilations

    def __call__(self, configuration: Configuration) -> StructurePrediction:
        """Evaluate a structure, which `check_configuration` accepts.

        Raises:
            InputError: an atom's element is not among the model's, or this process was forked after jax was used.
        """
        refuse_fork()
        graph = self.verlet.graph(configuration)
        prediction = jax.device_get(self.program(self._params, self._batch(graph)))
        num_atoms = graph.num_nodes
        energies = self._atomic_energies[graph.species] + prediction.node_energy[:num_atoms]
        is_flat = abs(np.linalg.det(graph.cell)) <= NO_VOLUME
        return StructurePrediction(
            energy=float(energies.sum()),
            energies=energies,
            forces=prediction.forces[:num_atoms].astype(np.float64),
            stress=None if prediction.stress is None or is_flat else prediction.stress[0].astype(np.float64),
        )

    def hessian(self, configuration: Configuration) -> np.ndarray:
        """Second derivatives of the energy [3 atoms, 3 atoms], eV/Å². Arguments and errors as for a call."""
        refuse_fork()
        batch, size = self._batch(self.verlet.graph(configuration)), 3 * configuration.num_atoms
        units = np.eye(size, 3 * batch.num_nodes, dtype=self._dtype).reshape(size, batch.num_nodes, 3)
        rows = [np.asarray(self._hessian_product(self._params, batch, unit), np.float64).ravel()[:size] for unit in units]
        hessian = np.stack(rows)
        return (hessian + hessian.T) / 2  # symmetric but for rounding

    @functools.cached_property
    def _hessian_product(self) -> CompiledStep:
        return CompiledStep(make_hessian_product(self._potential.graphdef), "products with the Hessian")

    @functools.cached_property
    def _params(self) -> Params:
        """The parameters on the device. Those of an unpickled potential are numpy arrays until they are first used."""
        return jax.device_put(self._potential.params)

    def _batch(self, graph: Graph) -> GraphBatch:
        """Pad the graph to the smallest known shape that is not much too large, or else to a new one."""
        size = (graph.num_nodes, graph.num_edge_slots, len(graph.pairs))
        fitting = [bucket for bucket in self._buckets if bucket.holds(*size) and _padding(bucket, graph) <= _MOST_PADDING]
        if not fitting:
            fitting = [padded_shape(graph.num_nodes, int(_HEADROOM * graph.num_edge_slots), int(_HEADROOM * len(graph.pairs)))]
            self._buckets += fitting
        return pad_batch([graph], min(fitting), self._dtype)


def _padding(bucket: Bucket, graph: Graph) -> float:
    """Share of a shape that is padding, of its nodes or its edges, whichever is larger. A few nodes or edges do not count."""
    nodes, edges = bucket.nodes - graph.num_nodes, bucket.edges - graph.num_edge_slots
    return max(nodes / bucket.nodes if nodes > 8 else 0.0, edges / bucket.edges if edges > 256 else 0.0)


def _checked(atoms: ase.Atoms) -> Configuration:
    configuration = configuration_of(atoms)
    check_configuration(configuration)
    return configuration
