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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mace_tp.benchmark.cases import Sizes, make_case
from mace_tp.benchmark.derivatives import training
from mace_tp.benchmark.timing import compile_program, time_in_turn
from mace_tp.compilation import compiling
from mace_tp.compiled import Compiled, describe_kernel
from mace_tp.config import TensorProductConfig, build_tensor_products
from mace_tp.environment import describe
from mace_tp.errors import InputError
from mace_tp.graph import GraphBatch
from mace_tp.model import Architecture
from mace_tp.tensor_products.base import TensorProduct

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
    layers = _layers(site, architecture)
    what = _description(site, forms, architecture, layers, batch, dtype) | {"kernel": describe_kernel(kernel)}
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    known = _read(cache)
    if key not in known:
        seconds, reasons = _measure(site, forms, architecture, layers, batch, dtype)
        known[key] = {"what": what, "seconds": seconds, "left_out": reasons}
        _write(cache, known)
        origin = "timed now"
    else:
        origin = f"timed earlier, {cache}"
    seconds, reasons = known[key]["seconds"], known[key]["left_out"]
    best = min(seconds, key=seconds.__getitem__)
    others = [f"{name} {1000 * value:.1f} ms" for name, value in seconds.items() if name != best]
    others += [f"{name} left out: {reason}" for name, reason in reasons.items()]
    _LOG.info(
        "tensor_product.%s: %s is the fastest form, %.1f ms of a step (%s); %s",
        site,
        best,
        1000 * seconds[best],
        "; ".join(others) or "the only one",
        origin,
    )
    return best


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
    """Seconds that each form takes for all layers, in turn, and why forms were left out."""
    seconds: dict[str, float] = collections.defaultdict(float)
    reasons: dict[str, str] = {}
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
        for name, product in forms.items():
            try:
                program = training(make_case(site, product, architecture.l_max, sizes).operation)
                with compiling(f"tensor_product.{site}={name}, to be timed"):
                    calls[name] = compile_program(*program).call
            except InputError as error:
                reasons[name] = str(error)
        for name, values in time_in_turn(calls, _REPEATS).items():
            seconds[name] += count * float(np.median(values))
    return {name: value for name, value in seconds.items() if name not in reasons}, reasons


def _description(
    site: str, forms: Sequence[str], architecture: Architecture, layers: Mapping[str, int], batch: GraphBatch, dtype: jnp.dtype
) -> dict[str, Any]:
    """Everything that the times depend on, as JSON."""
    device = jax.config.jax_default_device or jax.devices()[0]
    environment = {name: value for name, value in describe(device, str(dtype)).items() if name not in _NO_MATTER}
    shapes = {"nodes": batch.num_nodes, "edges": batch.num_edges, "channels": architecture.num_channels}
    return {
        "site": site,
        "forms": {name: _version(name) for name in forms},
        "layers": dict(layers),
        "l_max": architecture.l_max,
        "correlation": architecture.correlation,
        **shapes,
        "environment": environment,
    }


def _version(package: str) -> str | None:
    """Of the package that a form is named after, if it is one and installed."""
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
