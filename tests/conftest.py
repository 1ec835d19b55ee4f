"""Shared by all tests: float64 on the CPU, a compilation cache, three small systems and a small model."""

import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# tblite labels molecules of nine atoms: a second thread only waits, and waits forever if the cores are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whenever XLA reads its compilation cache, it warns of processor features that are only hints.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib
import platform
from collections.abc import Callable

import jax
import numpy as np
import pytest
from flax import nnx

from mace_tp.cli.main import set_xla_flags
from mace_tp.data.batching import pad_batch
from mace_tp.data.buckets import Bucket
from mace_tp.data.configuration import Configuration
from mace_tp.data.dataset_statistics import DatasetStatistics
from mace_tp.data.graphs import build_graphs
from mace_tp.graph import GraphBatch
from mace_tp.model.architecture import Architecture
from mace_tp.model.mace import MACE
from mace_tp.model.parameters import Params
from mace_tp.model.prediction import Prediction
from mace_tp.model.programs import make_predict
from mace_tp.tensor_products.registry import TensorProductConfig, build_tensor_products

# Tracing makes many long-lived objects; looking through all of them again and again takes nearly a tenth of the time.
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_enable_x64", True)
set_xla_flags()  # the programs that the command runs
# Tests spend most of their time compiling, and nearly all programs are the same from run to run. Programs run only on the processor that
# they were compiled for, and a home directory may be shared between machines.
_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mace-tp" / "tests" / platform.node()
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

STATISTICS = DatasetStatistics(atomic_numbers=(1, 6, 8), atomic_energies=(-1.25, 2.5, -0.75), avg_num_neighbors=0.5, scale=0.8, shift=-0.2)
ARCHITECTURE = Architecture(cutoff=4.0, l_max=2, num_channels=4, radial_mlp=[8, 8], num_bessel=4, readout_mlp=4)
CG = TensorProductConfig()
BUCKET = Bucket(nodes=12, edges=256, graphs=4, pairs=129)


@pytest.fixture(scope="session")
def statistics() -> DatasetStatistics:
    return STATISTICS


@pytest.fixture(scope="session")
def architecture() -> Architecture:
    return ARCHITECTURE


@pytest.fixture(scope="session")
def molecule() -> Configuration:
    """Formaldehyde, distorted out of its plane, with arbitrary labels."""
    positions = np.array([[0.0, 0.0, 0.0], [1.21, 0.1, -0.2], [-0.55, 0.95, 0.1], [-0.6, -0.85, 0.4]])
    forces = np.array([[0.3, -0.1, 0.2], [-0.5, 0.2, 0.1], [0.1, 0.1, -0.6], [0.1, -0.2, 0.3]])
    return Configuration(np.array([6, 8, 1, 1]), positions, np.zeros((3, 3)), (False,) * 3, -1.5, forces, None, "", "molecule")


@pytest.fixture(scope="session")
def crystal() -> Configuration:
    """Three atoms in a triclinic cell that is smaller than the cutoff, so that atoms are neighbors of their own images."""
    positions = np.array([[0.1, 0.0, 0.2], [1.6, 1.3, 0.1], [0.3, 1.5, 1.9]])
    cell = np.array([[2.9, 0.2, -0.1], [0.4, 3.1, 0.3], [-0.2, 0.1, 3.4]])
    forces = np.array([[0.2, 0.4, -0.3], [-0.1, -0.2, 0.5], [-0.1, -0.2, -0.2]])
    stress = np.array([[0.02, 0.01, 0.0], [0.01, -0.03, 0.02], [0.0, 0.02, 0.01]])
    return Configuration(np.array([6, 8, 1]), positions, cell, (True,) * 3, 0.8, forces, stress, "", "crystal")


@pytest.fixture(scope="session")
def lone_atom() -> Configuration:
    """An oxygen atom without neighbors, and without labels."""
    return Configuration(np.array([8]), np.array([[0.3, -0.2, 0.1]]), np.zeros((3, 3)), (False,) * 3, None, None, None, "", "atom")


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., GraphBatch]:
    """Builds a float64 batch of the configurations, always of one shape, so that a function of it is compiled once."""

    def make(*configurations: Configuration, bucket: Bucket = BUCKET) -> GraphBatch:
        graphs = build_graphs(configurations, STATISTICS.atomic_numbers, STATISTICS.atomic_energies, ARCHITECTURE.cutoff)
        return pad_batch(graphs, bucket, np.float64)

    return make


@pytest.fixture(scope="session")
def batch(make_batch, molecule, crystal, lone_atom) -> GraphBatch:
    return make_batch(molecule, crystal, lone_atom)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., tuple[nnx.GraphDef, Params]]:
    """Builds a float64 model with random parameters as (graphdef, parameters), by default a small one."""

    def make(
        architecture: Architecture = ARCHITECTURE,
        statistics: DatasetStatistics = STATISTICS,
        tensor_product: TensorProductConfig = CG,
    ) -> tuple[nnx.GraphDef, Params]:
        products = build_tensor_products(tensor_product)
        model = MACE(architecture, products, statistics, dtype=np.dtype(np.float64), rng=np.random.default_rng(0))
        graphdef, shapes = nnx.split(model, nnx.Param)
        # All parameters are of order one, so that every order of the product basis counts. numpy, because it compiles nothing.
        # With this seed no number that the tests look at happens to be small, for any tensor product.
        rng = np.random.default_rng(10)
        return graphdef, jax.tree.map(lambda leaf: jax.numpy.asarray(rng.normal(size=leaf.shape)), shapes)

    return make


@pytest.fixture(scope="session")
def model(make_model) -> tuple[nnx.GraphDef, Params]:
    return make_model()


@pytest.fixture(scope="session")
def potential(model) -> Callable[[GraphBatch], Prediction]:
    """Compiled prediction of the small model."""
    graphdef, params = model
    predict = jax.jit(make_predict(graphdef))
    return lambda batch: predict(params, batch)
