"""The installed jax computes right numbers where a released one did not, and is one that we allow."""

import os
import pathlib
import subprocess
import sys
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement

PYPROJECT = pathlib.Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_rows", [16_384, 16_385, 32_769, 65_536])
def test_matrix_times_vector_then_sum_of_squares(num_rows, dtype):
    """jax-ml/jax#39103: jax 0.10.2 on CPU took the last rows for others, from 16,385 in float64 and 32,769 in float32."""
    rng = np.random.default_rng(0)
    # Small integers, so that every sum is exact.
    matrix, vectors = rng.integers(-4, 5, (3, 3)).astype(dtype), rng.integers(-9, 10, (num_rows, 3)).astype(dtype)

    actual = jax.jit(jax.vmap(lambda vector: jnp.sum((jnp.asarray(matrix) @ vector) ** 2)))(vectors)

    np.testing.assert_array_equal(actual, ((vectors @ matrix.T) ** 2).sum(axis=1))


@pytest.mark.slow
def test_model_and_canary_are_right_without_our_compiler_options():
    """Programs that call the library run those of XLA; the other tests run those of the command (`set_xla_flags`)."""
    tests = pathlib.Path(__file__).parents[1]
    files = ("model/test_numerics_canary.py", "model/test_mace.py", "tensor_products/test_fast_forms.py", "training/test_step.py")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *(str(tests / name) for name in files)],
        env=os.environ | {"XLA_FLAGS": "--xla_backend_extra_options=xla_none"}, cwd=tests.parent, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def _requirements() -> dict[str, Requirement]:
    requirements = map(Requirement, tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"])
    return {requirement.name: requirement for requirement in requirements}


def test_installed_jax_is_one_that_pyproject_allows():
    assert _requirements()["jax"].specifier.contains(jax.__version__, prereleases=True)


@pytest.mark.parametrize("version", ["0.10.0", "0.10.2", "0.11.0", "0.11.1", "0.13.0"])
def test_pyproject_excludes_versions_of_jax_that_are_wrong_or_untested(version):
    assert not _requirements()["jax"].specifier.contains(version)
