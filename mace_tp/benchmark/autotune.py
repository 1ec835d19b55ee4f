"""Chooses the fastest among the forms of a tensor product that compute the same function of the same weights.

Both sites are timed before the training, as a training step needs them, with the shapes of the model and of its batches. The times are kept
on disk; the key of an entry holds the shapes, the device and the versions.
"""

import collections
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
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
from mace_tp.run_directory import write_atomically
from mace_tp.runtime.compilation import compiling
from mace_tp.runtime.environment import describe
from mace_tp.tensor_products.base import TensorProduct
from mace_tp.tensor_products.compiled import Compiled, describe_kernel
from mace_tp.tensor_products.registry import TensorProductConfig, build_tensor_products

_LOG = logging.getLogger("mace_tp")
_REPEATS = 7
_IRRELEVANT = ("commit", "python")  # entries of the environment that do not change compiled programs


def autotune(
    tensor_product: TensorProductConfig, architecture: Architecture, batch: GraphBatch, dtype: jnp.dtype, cache: Path, kernel: str = "auto"
) -> TensorProductConfig:
    """Replace every site that leaves a choice (`auto`) by the name of its fastest form; the rest of the configuration stays.

    Args:
        tensor_product: as configured.
        architecture: of the model.
        batch: a batch of the training.
        dtype: of the parameters.
        cache: JSON file of earlier measurements; it need not exist.
        kernel: setting of the model, `auto` or `xla`.
    """
    products = build_tensor_products(tensor_product)
    chosen = {}
    for site, product in {"interaction": products.interaction, "product_basis": products.product_basis}.items():
        if forms := product.forms():
            task = _Task(site, jax.tree.map(jnp.asarray, batch), architecture, jnp.dtype(dtype), kernel)
            compiled = {name: Compiled(form) if kernel == "auto" else form for name, form in forms.items()}
            chosen[site] = {"name": _choose(task, compiled, cache)}
    return dataclasses.replace(tensor_product, **chosen)


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """A site of the model and the shapes for which its forms are timed."""

    site: str
    batch: GraphBatch
    architecture: Architecture
    dtype: jnp.dtype
    kernel: str

    def layers(self) -> dict[str, int]:
        """Return how many layers have which irreps: those that an interaction starts from, or that a product basis ends in."""
        between = [self.architecture.hidden_irreps] * (self.architecture.num_interactions - 1)
        ends = {"interaction": ["0e", *between], "product_basis": [*between, "0e"]}
        return dict(collections.Counter(ends[self.site]))

    def sizes(self, irreps: str) -> Sizes:
        return Sizes(
            batch=0,
            channels=self.architecture.num_channels,
            parity="natural",
            hidden_irreps=irreps,
            correlation=self.architecture.correlation,
            graphs=self.batch,
            cutoff=self.architecture.cutoff,
            dtype=self.dtype,
        )

    def description(self, forms: Mapping[str, TensorProduct]) -> dict[str, Any]:
        """Return everything that the times depend on, as JSON."""
        [device] = jnp.zeros(()).devices()
        environment = describe(device, str(self.dtype))
        return {
            "site": self.site,
            "forms": {name: {package: _version(package) for package in form.packages()} for name, form in forms.items()},
            "layers": self.layers(),
            "l_max": self.architecture.l_max,
            "correlation": self.architecture.correlation,
            "nodes": self.batch.num_nodes,
            "edges": self.batch.num_edges,
            "channels": self.architecture.num_channels,
            "environment": {name: value for name, value in environment.items() if name not in _IRRELEVANT},
            "kernel": describe_kernel(self.kernel, self.dtype.name),
        }


def _choose(task: _Task, forms: Mapping[str, TensorProduct], cache: Path) -> str:
    """Return the name of the fastest form, and log why it was chosen."""
    missing = {name: reason for name, form in forms.items() if (reason := _reason(form)) is not None}
    available = {name: form for name, form in forms.items() if name not in missing}
    if len(available) == 1:
        [name] = available
        _LOG.info("tensor_product.%s: %s is the only form here (%s)", task.site, name, "; ".join(_left_out(missing)))
        return name
    what = task.description(available)
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    known, origin = _read(cache), f"timed earlier, {cache}"
    if key not in known:
        seconds, failed = _measure(task, available)
        known[key], origin = {"what": what, "seconds": seconds, "left_out": missing | failed}, "timed now"
        if not failed:  # a failure may come from a driver, whose version is not in the key: measure again next time
            _write(cache, known)
    seconds = known[key]["seconds"]
    best = min(seconds, key=seconds.__getitem__)
    rest = [f"{name} {1000 * value:.1f} ms" for name, value in seconds.items() if name != best] + _left_out(known[key]["left_out"])
    message = "tensor_product.%s: %s is the fastest form, %.1f ms of a step (%s); %s"
    _LOG.info(message, task.site, best, 1000 * seconds[best], "; ".join(rest) or "the only one", origin)
    return best


def _reason(form: TensorProduct) -> str | None:
    """Return why a form cannot compute here; None if it can."""
    try:
        form.require_packages()
    except InputError as error:
        return str(error)
    return None


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    return [f"{name} left out: {reason}" for name, reason in reasons.items()]


def _measure(task: _Task, forms: Mapping[str, TensorProduct]) -> tuple[dict[str, float], dict[str, str]]:
    """Time the forms in turn; return the seconds of each for all layers, and why forms were left out.

    Raises:
        Exception: that of the first form, if no form can be timed.
    """
    seconds: dict[str, float] = collections.defaultdict(float)
    failures: dict[str, Exception] = {}
    for irreps, count in task.layers().items():
        calls = {}
        for name in [name for name in forms if name not in failures]:
            try:
                program = training(make_case(task.site, forms[name], task.architecture.l_max, task.sizes(irreps)).operation)
                with compiling(f"tensor_product.{task.site}={name}, to be timed"):
                    call = compile_program(*program).call
                jax.block_until_ready(call())
                calls[name] = call
            except Exception as error:  # kernels of other packages raise exceptions of any type, some only at their first launch
                failures[name] = error
        if len(failures) == len(forms):
            raise next(iter(failures.values()))
        for name, values in time_in_turn(calls, _REPEATS).items():
            seconds[name] += count * float(np.median(values))
    reasons = {name: " ".join(f"{type(error).__name__}: {error}".split())[:160] for name, error in failures.items()}
    return {name: value for name, value in seconds.items() if name not in failures}, reasons


def _version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(cache: Path) -> dict[str, Any]:
    """Return earlier measurements; none if the file is missing or damaged."""
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(cache: Path, known: Mapping[str, Any]) -> None:
    """Replace the file in one step. If it cannot be written, the next training measures again."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps(known, indent=1, ensure_ascii=False))
    except OSError as error:
        _LOG.warning("%s: cannot be written (%s); the choice is not kept", cache, error.strerror)
