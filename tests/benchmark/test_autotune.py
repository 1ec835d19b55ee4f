"""A site that leaves a choice of forms gets the fastest one; measurements are kept."""

import dataclasses
import importlib.metadata
import json
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mace_tp.benchmark import autotune as module
from mace_tp.benchmark.autotune import autotune
from mace_tp.runtime.compilation import counted_compilations
from mace_tp.tensor_products import cuequivariance
from mace_tp.tensor_products.registry import TensorProductConfig

AUTO = TensorProductConfig({"name": "auto"}, {"name": "auto"})
FLOAT64 = jnp.dtype("float64")


@pytest.fixture
def seconds(monkeypatch) -> dict[str, float]:
    """Seconds that each form pretends to take; "measurements" counts the measurements."""
    said = {"cg": 2.0, "cuequivariance": 1.0, "measurements": 0}

    def fake(calls, repeats):
        said["measurements"] += 1
        return {name: np.full(repeats, said[name]) for name in calls}

    monkeypatch.setattr(module, "time_in_turn", fake)
    monkeypatch.setattr(module, "compile_program", lambda *_: types.SimpleNamespace(call=lambda: None))
    return said


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "folder" / "autotune.json"


def _tuned(batch, architecture, cache, tensor_product=AUTO) -> TensorProductConfig:
    return autotune(tensor_product, architecture, jax.tree.map(jnp.asarray, batch), FLOAT64, cache)


@pytest.mark.parametrize("fastest", ["cg", "cuequivariance"])
def test_the_fastest_form_is_taken_at_each_site(fastest, seconds, batch, architecture, cache):
    seconds[fastest] = 0.5

    assert _tuned(batch, architecture, cache) == TensorProductConfig({"name": fastest}, {"name": fastest})


def test_compilations_of_the_forms_are_counted(seconds, batch, architecture, cache, monkeypatch):
    monkeypatch.setattr(module, "compile_program", lambda *_: time.sleep(0.05) or types.SimpleNamespace(call=lambda: None))

    with counted_compilations() as clock:
        _tuned(batch, architecture, cache)
    assert clock.seconds >= 8 * 0.05, "two forms for two layers at two sites"

    with counted_compilations() as clock:
        _tuned(batch, architecture, cache)
    assert clock.seconds < 0.05, "the choice is kept"


@pytest.mark.slow
def test_forms_are_really_timed(batch, architecture, cache):
    chosen = _tuned(batch, architecture, cache)
    entries = json.loads(cache.read_text(encoding="utf-8")).values()

    for entry in entries:
        assert set(entry["seconds"]) == {"cg", "cuequivariance"} and min(entry["seconds"].values()) > 0
        assert chosen.__dict__[entry["what"]["site"]] == {"name": min(entry["seconds"], key=entry["seconds"].get)}
    assert [entry["what"]["layers"] for entry in entries] == [{"0e": 1, "0e+1o": 1}, {"0e+1o": 1, "0e": 1}]


def test_what_was_measured_is_not_measured_again(seconds, batch, architecture, cache):
    first = _tuned(batch, architecture, cache)
    count = seconds["measurements"]
    seconds["cg"] = 0.1

    assert _tuned(batch, architecture, cache) == first
    assert seconds["measurements"] == count == 4  # two sites, each with two kinds of layers


@pytest.mark.parametrize("change", [{"num_channels": 8}, {"l_max": 1}, {"num_interactions": 3}])
def test_other_shapes_are_measured_anew(change, seconds, batch, architecture, cache):
    _tuned(batch, architecture, cache)
    before = seconds["measurements"]
    _tuned(batch, dataclasses.replace(architecture, **change), cache)

    assert seconds["measurements"] > before


CG = TensorProductConfig({"name": "cg"}, {"name": "cg"})


def test_a_form_that_is_not_installed_is_left_out(seconds, batch, architecture, cache, monkeypatch, caplog):
    def missing():
        raise cuequivariance.InputError("tensor_product=cuequivariance: the package is not installed")

    monkeypatch.setattr(cuequivariance, "_library", missing)
    with caplog.at_level("INFO", "mace_tp"):
        assert _tuned(batch, architecture, cache) == CG

    assert "cuequivariance left out: tensor_product=cuequivariance: the package is not installed" in caplog.text
    assert seconds["measurements"] == 0 and not cache.exists(), "nothing is left to choose among"


@pytest.mark.parametrize("error", [ImportError("no kernels"), OSError("libcue_ops.so: cannot open"), ValueError("two\nlines")])
def test_on_a_gpu_a_form_whose_kernels_do_not_load_is_left_out(error, seconds, batch, architecture, cache, monkeypatch, caplog):
    pytest.importorskip("cuequivariance_jax")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setitem(sys.modules, "cuequivariance_ops_jax", _Broken(error))
    with caplog.at_level("INFO", "mace_tp"):
        assert _tuned(batch, architecture, cache) == CG

    reason = " ".join(str(error).split())
    assert f"its kernels for a GPU cannot be loaded ({type(error).__name__}: {reason})" in caplog.text
    assert not cache.exists(), "once they load, all forms are timed"


class _Broken(types.ModuleType):
    """A module from which nothing can be imported."""

    def __init__(self, error: Exception) -> None:
        super().__init__("broken")
        self._error = error

    def __getattr__(self, name: str) -> None:
        raise self._error


@pytest.mark.parametrize("when", ["lowering", "launch"])
@pytest.mark.parametrize("error", [ValueError("a polynomial that the\nkernels lack"), jax.errors.JaxRuntimeError("no kernel image")])
def test_a_form_that_fails_later_is_left_out_and_tried_again(when, error, seconds, batch, architecture, cache, monkeypatch, caplog):
    def compiled(function, arguments):
        is_foreign = isinstance(made.pop(), cuequivariance.Cuequivariance)
        if is_foreign and when == "lowering":
            raise error
        return types.SimpleNamespace(call=lambda: (_ for _ in ()).throw(error) if is_foreign else None)

    made, make_case = [], module.make_case
    monkeypatch.setattr(module, "make_case", lambda site, product, *rest: made.append(product.product) or make_case(site, product, *rest))
    monkeypatch.setattr(module, "compile_program", compiled)
    with caplog.at_level("INFO", "mace_tp"):
        assert _tuned(batch, architecture, cache) == CG
    assert f"cuequivariance left out: {type(error).__name__}: {' '.join(str(error).split())}" in caplog.text
    assert not cache.exists()


def test_where_no_form_can_be_timed_the_reason_is_that_of_the_first(seconds, batch, architecture, cache, monkeypatch):
    def compiled(function, arguments):
        raise jax.errors.JaxRuntimeError("out of memory")

    monkeypatch.setattr(module, "compile_program", compiled)
    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        _tuned(batch, architecture, cache)


PACKAGES = ["cuequivariance", "cuequivariance-jax", "cuequivariance-ops-cu12", "cuequivariance-ops-jax-cu13"]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("before, after", [("0.13.0", "0.13.1"), (None, "0.13.0")])
def test_another_version_of_the_library_or_its_kernels_is_measured_anew(
    package, before, after, seconds, batch, architecture, cache, monkeypatch
):
    versions, version = {package: before}, importlib.metadata.version

    def stated(name):
        if name not in versions:
            return version(name)
        if versions[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", stated)
    _tuned(batch, architecture, cache)
    known = seconds["measurements"]
    _tuned(batch, architecture, cache)
    assert seconds["measurements"] == known
    versions[package] = after
    _tuned(batch, architecture, cache)
    assert seconds["measurements"] == 2 * known


def test_sites_without_a_choice_stay_and_nothing_is_measured(seconds, batch, architecture, cache):
    configured = TensorProductConfig("cg", {"name": "spherical_grid", "rank": 2})

    assert _tuned(batch, architecture, cache, configured) == configured
    assert seconds["measurements"] == 0 and not cache.exists()


@pytest.mark.parametrize("content", ["", "no JSON", "[1, 2]"])
def test_a_damaged_cache_is_replaced(content, seconds, batch, architecture, cache):
    cache.parent.mkdir()
    cache.write_text(content, encoding="utf-8")
    _tuned(batch, architecture, cache)

    assert len(json.loads(cache.read_text(encoding="utf-8"))) == 2


def test_a_cache_that_cannot_be_written_is_only_a_warning(seconds, batch, architecture, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    assert _tuned(batch, architecture, tmp_path / "file" / "autotune.json").interaction == {"name": "cuequivariance"}
    assert "the choice is not kept" in caplog.text
