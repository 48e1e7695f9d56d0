"""From what the shards drew to minibatches on the learner's device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distdqn.types import Batch

# What comes out of shared memory is read-only, and the tensors over it are only read.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

FIELDS = ("frames", "action", "reward", "terminated", "last", "age", "bonus", "memory", "importance")


class Minibatch(NamedTuple):
    """Tensors of one minibatch on the learner's device; shapes and dtypes as in `types.Batch`."""

    frames: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    last: Tensor
    age: Tensor
    bonus: Tensor
    memory: Tensor
    importance: Tensor


def split(parts: Sequence[Batch]) -> list[dict[str, np.ndarray]]:
    """The minibatches that `parts`, one from each shard, make up together.

    Row order within a minibatch is that of the shards, so `cut` can hand the priorities back.
    """
    updates = len(parts[0].sizes)
    if any(len(p.sizes) != updates for p in parts):
        raise ValueError("the shards drew different numbers of minibatches")
    bounds = [np.concatenate([[0], np.cumsum(p.sizes)]) for p in parts]
    minibatches = []
    for u in range(updates):
        rows = [slice(b[u], b[u + 1]) for b in bounds]
        minibatches.append(
            {
                name: np.concatenate([getattr(p, name)[r] for p, r in zip(parts, rows, strict=True)])
                if len(parts) > 1
                else getattr(parts[0], name)[rows[0]]
                for name in (*FIELDS, "origin")
            }
        )
    return minibatches


def cut(parts: Sequence[Batch], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Per-row `values` of each minibatch, put back into the row order of each part."""
    pieces: list[list[np.ndarray]] = [[] for _ in parts]
    for u, rows in enumerate(values):
        start = 0
        for part, piece in zip(parts, pieces, strict=True):
            piece.append(rows[start : start + part.sizes[u]])
            start += part.sizes[u]
    return [np.concatenate(piece) for piece in pieces]


class ToDevice:
    """Minibatches as tensors. On CUDA each is pinned and copied on a stream of its own, one ahead of the
    compute, so that the copy of the next overlaps with the update on this one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, minibatches: Sequence[dict[str, np.ndarray]]) -> Iterator[Minibatch]:
        """Yields the minibatches in order."""
        if self.stream is None:
            for m in minibatches:
                yield Minibatch(*(torch.from_numpy(m[name]) for name in FIELDS))
            return
        compute = torch.cuda.current_stream(self.device)
        ahead = self._copy(minibatches[0])
        for i in range(len(minibatches)):
            batch, done = ahead
            if i + 1 < len(minibatches):
                ahead = self._copy(minibatches[i + 1])
            compute.wait_event(done)
            for tensor in batch:
                tensor.record_stream(compute)
            yield batch

    def _copy(self, arrays: dict[str, np.ndarray]) -> tuple[Minibatch, torch.cuda.Event]:
        assert self.stream is not None
        with torch.cuda.stream(self.stream):
            batch = Minibatch(
                *(torch.from_numpy(arrays[name]).pin_memory().to(self.device, non_blocking=True) for name in FIELDS)
            )
            done = torch.cuda.Event()
            done.record(self.stream)
        return batch, done
