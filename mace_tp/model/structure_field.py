"""A trained model on one structure after another: energy, forces and stress, compiled once for structures of like size."""

import dataclasses
import functools

import jax
import numpy as np

from mace_tp.data.batching import pad_batch
from mace_tp.data.buckets import Bucket, padded_shape
from mace_tp.data.configuration import Configuration
from mace_tp.data.graphs import NO_VOLUME, Graph
from mace_tp.data.verlet import VerletList
from mace_tp.model.parameters import Params
from mace_tp.model.programs import CompiledStep, make_predict
from mace_tp.model.saved_model import Model
from mace_tp.runtime.forked import refuse_fork

# Å. Within it the search for neighbors is not repeated; a wider one has more candidates to look through at every step.
_SKIN = 1.0
# A shape is made with room for so many times the edges, for a structure that moves has now more and now fewer.
_ROOM = 1.15
# A structure takes a shape that is there if at most this share of it is filled up, rather than have one compiled.
_MOST_PADDING = 0.5


@dataclasses.dataclass(frozen=True)
class StructurePrediction:
    """What a model says of one structure, E0s included; float64 on the host."""

    energy: float  # eV
    energies: np.ndarray  # of each atom [atoms], eV
    forces: np.ndarray  # [atoms, 3], eV/Å
    stress: np.ndarray | None  # [3, 3], eV/Å³, ASE's sign; None: direct forces, or a cell without volume


class StructureField:
    """Evaluates structures one by one. Neighbors are kept while a structure moves little, programs while the size stays alike.

    Args:
        model: what to evaluate.
        step: (parameters, batch) → prediction, compiled; several fields may share it if their models are alike.
        verlet: where neighbors are looked for; several fields may share it if their models have the same elements and cutoff.
    """

    def __init__(self, model: Model, step: CompiledStep | None = None, verlet: VerletList | None = None) -> None:
        self._model = model
        self.step = step or CompiledStep(make_predict(model.graphdef, model.architecture.cutoff), "energy and forces")
        self.verlet = verlet or VerletList(model.statistics.atomic_numbers, model.architecture.cutoff, _SKIN)
        self._energies = np.asarray(model.statistics.atomic_energies, np.float64)
        self._dtype = model.dtype
        self._buckets: list[Bucket] = []

    @property
    def num_compilations(self) -> int:
        return self.step.num_compilations

    def __call__(self, configuration: Configuration) -> StructurePrediction:
        """Evaluate a structure, which `check_configuration` accepts.

        Raises:
            InputError: an atom's element is not among the model's, or this process was forked after jax was used.
        """
        refuse_fork()
        graph = self.verlet.graph(configuration)
        prediction = jax.device_get(self.step(self._params, pad_batch([graph], self._bucket(graph), self._dtype)))
        num_atoms = graph.num_nodes
        energies = self._energies[graph.species] + prediction.node_energy[:num_atoms]
        has_stress = prediction.stress is not None and abs(np.linalg.det(graph.cell)) > NO_VOLUME
        return StructurePrediction(
            energy=float(energies.sum()),
            energies=energies,
            forces=prediction.forces[:num_atoms].astype(np.float64),
            stress=prediction.stress[0].astype(np.float64) if has_stress else None,
        )

    @functools.cached_property
    def _params(self) -> Params:
        """On the device; those of a model that was pickled are not before they are used."""
        return jax.device_put(self._model.params)

    def _bucket(self, graph: Graph) -> Bucket:
        """The least shape that holds the graph and is not much too large; a new one if there is none."""
        size = (graph.num_nodes, graph.num_edge_slots, len(graph.pairs))
        fitting = [bucket for bucket in self._buckets if bucket.holds(*size) and _padding(bucket, graph) <= _MOST_PADDING]
        if not fitting:
            fitting = [padded_shape(graph.num_nodes, int(_ROOM * graph.num_edge_slots), int(_ROOM * len(graph.pairs)))]
            self._buckets += fitting
        return min(fitting)


def _padding(bucket: Bucket, graph: Graph) -> float:
    """The share of a shape that a graph leaves empty, of nodes or of edges, whichever is larger; a few of them do not count."""
    nodes, edges = bucket.nodes - graph.num_nodes, bucket.edges - graph.num_edge_slots
    return max(nodes / bucket.nodes if nodes > 8 else 0.0, edges / bucket.edges if edges > 256 else 0.0)
