"""Errors on the validation set, by which the best epoch is chosen."""

import dataclasses
import time
from collections.abc import Iterator

from mace_tp.evaluation.batches import evaluate
from mace_tp.evaluation.metrics import ErrorSums, summarize
from mace_tp.graph import GraphBatch
from mace_tp.model.parameters import Params
from mace_tp.training.loss import LossWeights, loss_from_sums
from mace_tp.training.preparation import Setup
from mace_tp.training.signals import StopRequest


@dataclasses.dataclass(frozen=True)
class Validation:
    """Errors on the validation set, and the time that measuring them took."""

    sums: ErrorSums
    errors: dict[str, float]  # the keys of `metrics.jsonl`
    seconds: float  # without compilation
    compile_seconds: float

    def loss(self, weights: LossWeights) -> float:
        return float(loss_from_sums(self.sums, weights))


def validate(setup: Setup, params: Params, stop: StopRequest) -> Validation:
    """Measure the errors; after a stop, those of the batches so far, of one at least."""
    start, compiled_before = time.monotonic(), setup.eval_step.compile_seconds
    sums = evaluate(setup.eval_step, params, _until(stop, setup.eval_loaders["valid"].epoch(0)))
    errors = summarize(sums)
    compile_seconds = setup.eval_step.compile_seconds - compiled_before
    return Validation(sums, errors, time.monotonic() - start - compile_seconds, compile_seconds)


def validation_loss(setup: Setup, params: Params, weights: LossWeights) -> float:
    """The loss over the validation set."""
    return validate(setup, params, StopRequest()).loss(weights)


def _until(stop: StopRequest, batches: Iterator[GraphBatch]) -> Iterator[GraphBatch]:
    for batch in batches:
        yield batch
        if stop:
            return
