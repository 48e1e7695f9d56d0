"""Windows of random content, and windows written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from distdqn.types import Batch, EnvSpec

Make = Callable[..., Batch]
torch.set_num_threads(1)  # networks as small as these only lose time with more


def _make_batch(
    spec: EnvSpec,
    sizes: Sequence[int] = (8,),
    *,
    steps: int = 3,
    seed: int = 0,
    version: int = 0,
    memory: int = 0,
    bonus: bool = False,
) -> Batch:
    """Windows with every kind of end; keys are 1000 * seed + row."""
    rng, rows = np.random.default_rng(seed), sum(sizes)
    count = spec.stack - 1 + steps + 1
    shape = (rows, count, *spec.frame_shape)
    last = rng.random((rows, steps)) < 0.15
    extra = np.random.default_rng(seed + 1_000_000)
    frames = rng.integers(0, 256, shape, np.uint8) if spec.pixels else rng.standard_normal(shape, np.float32)
    kept = {
        "action": rng.integers(0, spec.num_actions, (rows, steps)),
        "reward": rng.normal(0, 2, (rows, steps)).astype(np.float32),
        "terminated": (last & (rng.random((rows, steps)) < 0.5)) | (rng.random((rows, steps)) < 0.1),
        "last": last,
        "age": (rng.integers(0, 5, (rows, 1)) + np.arange(steps)).astype(np.int32),
    }
    if bonus:
        kept["bonus"] = extra.random((rows, steps), np.float32)
    return Batch(
        frames=frames,
        steps=kept,
        memory=extra.standard_normal((rows, memory), np.float32),
        importance=rng.uniform(0.2, 3, rows).astype(np.float32),
        key=1000 * seed + np.arange(rows),
        origin=np.column_stack((np.full((rows, 4), seed), np.full(rows, version), np.arange(rows))).astype(np.int64),
        sizes=tuple(sizes),
    )


@pytest.fixture(scope="session")
def make_batch() -> Make:
    """Makes batches; see `_make_batch`."""
    return _make_batch
