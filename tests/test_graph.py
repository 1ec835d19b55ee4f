"""The annotations of a batch are true: dtypes, shapes, and sizes that agree between arrays."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError, jaxtyped

from mace_tp.graph import GraphBatch, segment_sum


def test_arrays_of_a_batch_are_as_annotated(batch):
    hints = GraphBatch.__annotations__
    with jaxtyped("context"):  # within it a size of one name is one number
        for field in dataclasses.fields(batch):
            value = getattr(batch, field.name)
            assert value is None or isinstance(jnp.asarray(value), hints[field.name]), field.name


def test_annotations_are_checked_in_tests():
    with pytest.raises(TypeCheckError):
        segment_sum(jnp.ones((3, 2)), np.zeros(4, np.int32), 2)
