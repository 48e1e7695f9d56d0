"""Parts of several shards to minibatches, and per-row values back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.learn.minibatch import cut, join, on_cpu, split_parts
from distdqn.learn.staging import Staging
from distdqn.types import Batch, EnvSpec, named_arrays

VECTOR = EnvSpec("vector", (2,), "float32", 1, 3)
Make = Callable[..., Batch]
sizes_of_parts = st.integers(1, 4).flatmap(
    lambda updates: st.lists(st.lists(st.integers(0, 5), min_size=updates, max_size=updates), min_size=1, max_size=4)
)


@settings(deadline=None)
@given(sizes_of_parts)
def test_each_row_reaches_its_minibatch_and_its_value_comes_back(make_batch: Make, sizes: list[list[int]]) -> None:
    parts = [make_batch(VECTOR, s, seed=i + 1) for i, s in enumerate(sizes)]
    # the importance tells which part and row it is of, so that it can stand for the row's priority
    parts = [replace(p, importance=p.key.astype(np.float32)) for p in parts]
    minibatches = [join(rows) for rows in split_parts(parts)]
    assert len(minibatches) == len(sizes[0])
    for u, minibatch in enumerate(minibatches):
        rows = [(p, r) for p in parts for r in range(sum(p.sizes[:u]), sum(p.sizes[: u + 1]))]
        for name, array in named_arrays(minibatch).items():
            assert len(array) == len(rows)
            for got, (part, row) in zip(array, rows, strict=True):
                np.testing.assert_array_equal(got, getattr(part, name)[row])
    for part, values in zip(parts, cut(parts, [m.importance for m in minibatches]), strict=True):
        np.testing.assert_array_equal(values, part.key)


def test_by_hand(make_batch: Make) -> None:
    one, two = make_batch(VECTOR, (1, 2), seed=1), make_batch(VECTOR, (2, 1), seed=2)
    values = [np.array([10.0, 20.0, 21.0]), np.array([11.0, 12.0, 22.0])]
    assert [v.tolist() for v in cut([one, two], values)] == [[10, 11, 12], [20, 21, 22]]


def test_parts_must_have_as_many_minibatches(make_batch: Make) -> None:
    with pytest.raises(ValueError, match="different numbers of minibatches"):
        split_parts([make_batch(VECTOR, (2, 2)), make_batch(VECTOR, (4,))])


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
)
def test_tensors_are_the_arrays(make_batch: Make, device: str) -> None:
    batch = make_batch(EnvSpec("pixels", (4, 3), "uint8", 2, 3), (3, 1, 4))
    for array in named_arrays(batch).values():
        array.flags.writeable = False  # as a view of shared memory is
    rows = split_parts([batch])
    arrive = Staging(torch.device(device)) if device == "cuda" else on_cpu
    arrived = 0
    for minibatch, (expected,) in zip(arrive(rows), rows, strict=True):
        arrived += 1
        for name in (*expected.steps, "frames", "memory", "importance"):
            tensor, array = getattr(minibatch, name), getattr(expected, name)
            assert tensor.device.type == device
            np.testing.assert_array_equal(tensor.cpu().numpy(), array)
            assert tensor.cpu().numpy().dtype == array.dtype
    assert arrived == 3
