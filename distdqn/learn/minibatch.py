"""From what the shards drew to minibatches on the learner's device."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distdqn.types import Batch, StepRecord, map_arrays, take

# What comes out of shared memory is read-only, and the tensors over it are only read.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


@dataclass(frozen=True)
class Minibatch(StepRecord[Tensor]):
    """Tensors of one minibatch on the learner's device; shapes and dtypes as in `types.Batch`."""

    frames: Tensor
    steps: dict[str, Tensor]
    memory: Tensor
    importance: Tensor


def split_parts(parts: Sequence[Batch]) -> list[list[Batch]]:
    """Of each minibatch that `parts`, one from each shard, make up together: its rows from each of them, uncopied."""
    updates = len(parts[0].sizes)
    if any(len(p.sizes) != updates for p in parts):
        raise ValueError("the shards drew different numbers of minibatches")
    bounds = [np.cumsum([0, *p.sizes]) for p in parts]
    return [
        [Batch(**take(p, slice(b[u], b[u + 1])), sizes=(p.sizes[u],)) for p, b in zip(parts, bounds, strict=True)]
        for u in range(updates)
    ]


def join(rows: Sequence[Batch]) -> Batch:
    """One minibatch of its `rows` from each shard, in the order of the shards, so that `cut` can hand the priorities
    back."""
    if len(rows) == 1:
        return rows[0]
    return Batch(**map_arrays(lambda *a: np.concatenate(a), *rows), sizes=(sum(len(r) for r in rows),))


def cut(parts: Sequence[Batch], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Per-row `values` of each minibatch, put back into the row order of each part."""
    pieces: list[list[np.ndarray]] = [[] for _ in parts]
    for u, rows in enumerate(values):
        start = 0
        for part, piece in zip(parts, pieces, strict=True):
            piece.append(rows[start : start + part.sizes[u]])
            start += part.sizes[u]
    return [np.concatenate(piece) for piece in pieces]


def on_cpu(minibatches: Sequence[Sequence[Batch]]) -> Iterator[Minibatch]:
    """What `split_parts` gave, as tensors over the arrays where one shard drew a minibatch alone."""
    for rows in minibatches:
        whole = join(rows)
        steps = {name: torch.from_numpy(array) for name, array in whole.steps.items()}
        others = (torch.from_numpy(x) for x in (whole.memory, whole.importance))
        yield Minibatch(torch.from_numpy(whole.frames), steps, *others)
