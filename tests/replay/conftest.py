"""Segments of random content whose provenance says which is which."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from distdqn.types import Segment


def _make_segments(
    number: int,
    first: int = 0,
    *,
    starts: int = 4,
    steps: int = 2,
    stack: int = 1,
    shape: tuple[int, ...] = (1,),
    all_valid: bool = False,
    groups: int = 1,
    bonus: bool = False,
) -> Segment:
    """`number` segments whose slot (column 2 of `origin`) is `first`, `first` + 1, ...

    The content is random, from a generator seeded with `first`; pixels where `shape` has two dimensions. There is
    a state of three numbers for each of `groups` starts.
    """
    rng, rows, total = np.random.default_rng(first), number, starts + steps
    frame_shape = (rows, stack - 1 + total, *shape)
    pixels = len(shape) == 2
    kept = {
        "action": rng.integers(0, 18, (rows, total)),
        "reward": rng.standard_normal((rows, total), np.float32),
        "terminated": rng.random((rows, total)) < 0.1,
        "last": rng.random((rows, total)) < 0.2,
        "age": rng.integers(0, 1000, (rows, total), np.int32),
    }
    if bonus:
        kept["bonus"] = rng.random((rows, total), np.float32)
    return Segment(
        frames=rng.integers(0, 256, frame_shape, np.uint8) if pixels else rng.standard_normal(frame_shape, np.float32),
        steps=kept,
        valid=(rng.random((rows, starts)) < 0.8) | all_valid,
        memory=rng.standard_normal((rows, groups, 3), np.float32),
        priority=rng.exponential(size=(rows, starts)).astype(np.float32),
        origin=np.array([[7, 2, first + k, 100 * k, 5] for k in range(rows)], np.int64).reshape(rows, 5),
    )


@pytest.fixture(scope="session")
def make_segments() -> Callable[..., Segment]:
    """Makes stacked segments; see `_make_segments`."""
    return _make_segments
