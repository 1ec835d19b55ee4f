"""Chooses by measurement among the execution forms of a tensor product, which compute the same function of the same weights.

Both sites are timed as a training step needs them (`benchmark/`), with the shapes of the model and of its batches, before there are
parameters. What was found is kept on disk, by shapes, device and versions.
"""

import collections
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.benchmark.cases import Sizes, make_case
from mace_tp.benchmark.derivatives import training
from mace_tp.benchmark.timing import compile_program, time_in_turn
from mace_tp.errors import InputError
from mace_tp.graph import GraphBatch
from mace_tp.model.architecture import Architecture
from mace_tp.runtime.compilation import compiling
from mace_tp.runtime.environment import describe
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.compiled import Compiled, describe_kernel
from mace_tp.tensor_products.registry import TensorProductConfig, build_tensor_products

_LOG = logging.getLogger("mace_tp")
_REPEATS = 7
_NO_MATTER = ("commit", "python")  # for what is compiled


def autotune(
    tensor_product: TensorProductConfig, architecture: Architecture, batch: GraphBatch, dtype: jnp.dtype, cache: Path, kernel: str = "auto"
) -> TensorProductConfig:
    """The configuration with every site that leaves a choice (`auto`) replaced by the name of the fastest form; others stay.

    Args:
        tensor_product: as configured.
        architecture: of the model.
        batch: one of the training's.
        dtype: of the parameters.
        cache: a JSON file of earlier measurements; it need not exist.
        kernel: as the model will have it.
    """
    products = build_tensor_products(tensor_product)
    sites = {"interaction": products.interaction, "product_basis": products.product_basis}
    forms = {site: product.forms() for site, product in sites.items() if product.forms()}
    if kernel == "auto":
        forms = {site: {name: Compiled(form) for name, form in named.items()} for site, named in forms.items()}
    batch = jax.tree.map(jnp.asarray, batch) if forms else batch
    chosen = {site: _choose(site, named, architecture, batch, dtype, cache, kernel) for site, named in forms.items()}
    return dataclasses.replace(tensor_product, **{site: {"name": name} for site, name in chosen.items()})


def _choose(
    site: str,
    forms: Mapping[str, TensorProduct],
    architecture: Architecture,
    batch: GraphBatch,
    dtype: jnp.dtype,
    cache: Path,
    kernel: str,
) -> str:
    forms, reasons = _available(forms)
    if len(forms) == 1:
        [name] = forms
        _LOG.info("tensor_product.%s: %s is the only form here (%s)", site, name, "; ".join(_left_out(reasons)))
        return name
    layers = _layers(site, architecture)
    what = _description(site, forms, architecture, layers, batch, dtype) | {"kernel": describe_kernel(kernel, jnp.dtype(dtype).name)}
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    known = _read(cache)
    if key not in known:
        seconds, failed = _measure(site, forms, architecture, layers, batch, dtype)
        known[key] = {"what": what, "seconds": seconds, "left_out": reasons | failed}
        if not failed:  # a driver that is mended has no version in the key
            _write(cache, known)
        origin = "timed now"
    else:
        origin = f"timed earlier, {cache}"
    seconds, reasons = known[key]["seconds"], known[key]["left_out"]
    best = min(seconds, key=seconds.__getitem__)
    others = [f"{name} {1000 * value:.1f} ms" for name, value in seconds.items() if name != best]
    others += _left_out(reasons)
    _LOG.info(
        "tensor_product.%s: %s is the fastest form, %.1f ms of a step (%s); %s",
        site,
        best,
        1000 * seconds[best],
        "; ".join(others) or "the only one",
        origin,
    )
    return best


def _available(forms: Mapping[str, TensorProduct]) -> tuple[dict[str, TensorProduct], dict[str, str]]:
    """The forms that can compute here, and why others cannot."""
    reasons: dict[str, str] = {}
    for name, product in forms.items():
        try:
            product.require_packages()
        except InputError as error:
            reasons[name] = str(error)
    return {name: product for name, product in forms.items() if name not in reasons}, reasons


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    return [f"{name} left out: {reason}" for name, reason in reasons.items()]


def _layers(site: str, architecture: Architecture) -> dict[str, int]:
    """Irreps that the layers' interactions start from, or their product bases end in, and how many layers do."""
    between = [architecture.hidden_irreps] * (architecture.num_interactions - 1)
    ends = {"interaction": ["0e", *between], "product_basis": [*between, "0e"]}
    return dict(collections.Counter(ends[site]))


def _measure(
    site: str,
    forms: Mapping[str, TensorProduct],
    architecture: Architecture,
    layers: Mapping[str, int],
    batch: GraphBatch,
    dtype: jnp.dtype,
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds that each form takes for all layers, in turn, and why forms were left out.

    Raises:
        Exception: of the first form, where none can be timed.
    """
    seconds: dict[str, float] = collections.defaultdict(float)
    failures: dict[str, Exception] = {}
    for irreps, count in layers.items():
        sizes = Sizes(
            batch=0,
            channels=architecture.num_channels,
            parity="natural",
            hidden_irreps=irreps,
            correlation=architecture.correlation,
            graphs=batch,
            cutoff=architecture.cutoff,
            dtype=dtype,
        )
        calls = {}
        for name in [name for name in forms if name not in failures]:
            try:
                program = training(make_case(site, forms[name], architecture.l_max, sizes).operation)
                with compiling(f"tensor_product.{site}={name}, to be timed"):
                    call = compile_program(*program).call
                jax.block_until_ready(call())
                calls[name] = call
            except Exception as error:  # kernels of other packages raise what they like, down to their first launch
                failures[name] = error
        if len(failures) == len(forms):
            raise next(iter(failures.values()))
        for name, values in time_in_turn(calls, _REPEATS).items():
            seconds[name] += count * float(np.median(values))
    reasons = {name: " ".join(f"{type(error).__name__}: {error}".split())[:160] for name, error in failures.items()}
    return {name: value for name, value in seconds.items() if name not in failures}, reasons


def _description(
    site: str,
    forms: Mapping[str, TensorProduct],
    architecture: Architecture,
    layers: Mapping[str, int],
    batch: GraphBatch,
    dtype: jnp.dtype,
) -> dict[str, Any]:
    """Everything that the times depend on, as JSON."""
    device = jax.config.jax_default_device or jax.devices()[0]
    environment = {name: value for name, value in describe(device, str(dtype)).items() if name not in _NO_MATTER}
    shapes = {"nodes": batch.num_nodes, "edges": batch.num_edges, "channels": architecture.num_channels}
    return {
        "site": site,
        "forms": {name: {package: _version(package) for package in product.packages()} for name, product in forms.items()},
        "layers": dict(layers),
        "l_max": architecture.l_max,
        "correlation": architecture.correlation,
        **shapes,
        "environment": environment,
    }


def _version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(cache: Path) -> dict[str, Any]:
    """Earlier measurements; none where there is no file of them, or one that cannot be read."""
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(cache: Path, known: Mapping[str, Any]) -> None:
    """Replace the file in one step; a cache that cannot be written is only slower next time."""
    beside = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(known, indent=1, ensure_ascii=False), encoding="utf-8")
        beside.replace(cache)
    except OSError as error:
        _LOG.warning("%s: cannot be written (%s); the choice is not kept", cache, error.strerror)
