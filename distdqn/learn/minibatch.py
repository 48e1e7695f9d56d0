"""From what the shards drew to minibatches on the learner's device."""

import warnings
from collections.abc import Callable, Iterator, Sequence
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


def join_parts(parts: Sequence[Batch]) -> list[Batch]:
    """The minibatches that `parts`, one from each shard, make up together. Row order within a minibatch is that of the
    shards, so `cut` can hand the priorities back."""
    updates = len(parts[0].sizes)
    if any(len(p.sizes) != updates for p in parts):
        raise ValueError("the shards drew different numbers of minibatches")
    bounds = [np.cumsum([0, *p.sizes]) for p in parts]
    minibatches = []
    for u in range(updates):
        sizes = (sum(p.sizes[u] for p in parts),)
        rows = [Batch(**take(p, slice(b[u], b[u + 1])), sizes=sizes) for p, b in zip(parts, bounds, strict=True)]
        whole = rows[0] if len(rows) == 1 else Batch(**map_arrays(lambda *a: np.concatenate(a), *rows), sizes=sizes)
        minibatches.append(whole)
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

    def __call__(self, minibatches: Sequence[Batch]) -> Iterator[Minibatch]:
        """Yields the minibatches in order."""
        if self.stream is None:
            for m in minibatches:
                yield _minibatch(m, torch.from_numpy)
            return
        compute = torch.cuda.current_stream(self.device)
        ahead = self._copy(minibatches[0])
        for i in range(len(minibatches)):
            batch, done = ahead
            if i + 1 < len(minibatches):
                ahead = self._copy(minibatches[i + 1])
            compute.wait_event(done)
            for tensor in (batch.frames, *batch.steps.values(), batch.memory, batch.importance):
                tensor.record_stream(compute)
            yield batch

    def _copy(self, arrays: Batch) -> tuple[Minibatch, torch.cuda.Event]:
        assert self.stream is not None
        with torch.cuda.stream(self.stream):
            batch = _minibatch(arrays, lambda a: torch.from_numpy(a).pin_memory().to(self.device, non_blocking=True))
            done = torch.cuda.Event()
            done.record(self.stream)
        return batch, done


def _minibatch(batch: Batch, tensor: Callable[[np.ndarray], Tensor]) -> Minibatch:
    steps = {name: tensor(array) for name, array in batch.steps.items()}
    return Minibatch(tensor(batch.frames), steps, tensor(batch.memory), tensor(batch.importance))
