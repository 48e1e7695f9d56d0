"""Minibatches on their way to a CUDA device: copied once on the host, and once to the device, while the one before is
computed."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distdqn.learn.minibatch import Minibatch
from distdqn.types import Batch

ALIGN = 256
"""Bytes; where a field of a minibatch begins, a kernel can read it at full width."""


class _Slot(NamedTuple):
    """A block of the host's pinned memory and one of the device's, when the first was `sent` and the second `taken`."""

    pinned: Tensor
    block: Tensor
    sent: torch.cuda.Event
    taken: torch.cuda.Event


class _Layout:
    """Where each field of a minibatch like `rows` lies in a block of `nbytes`."""

    def __init__(self, rows: Sequence[Batch]) -> None:
        self.of = _shapes(rows)
        self.fields: dict[str, tuple[int, tuple[int, ...], torch.dtype]] = {}
        self.nbytes, count = 0, sum(len(r) for r in rows)
        for name, array in _arrays(rows[0]).items():
            dtype = torch.from_numpy(array[:0]).dtype
            self.fields[name] = self.nbytes, (count, *array.shape[1:]), dtype
            size = count * int(np.prod(array.shape[1:], dtype=np.int64)) * array.itemsize
            self.nbytes += -(-size // ALIGN) * ALIGN

    def views(self, block: Tensor) -> dict[str, Tensor]:
        """The fields in a `block` of bytes."""
        found = {}
        for name, (at, shape, dtype) in self.fields.items():
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            found[name] = block[at : at + size].view(dtype).view(shape)
        return found


class Staging:
    """Puts each minibatch into the same tensors of `device`, one after the other, so that a captured program finds them
    there. Nothing here waits for the device but for the copy of the minibatch before the last."""

    def __init__(self, device: torch.device, slots: int = 2) -> None:
        self.device, self.count = device, slots
        self.stream = torch.cuda.Stream(device)
        self._layout: _Layout | None = None
        self._turn = 0

    def __call__(self, minibatches: Sequence[Sequence[Batch]]) -> Iterator[Minibatch]:
        """Yields what `split_parts` gave, in order; each is there until the next is asked for."""
        for rows in minibatches:
            if self._layout is None or self._layout.of != _shapes(rows):
                self._lay_out(rows)
            compute = torch.cuda.current_stream(self.device)
            slot = self._send(rows)
            compute.wait_event(slot.sent)
            self._here.copy_(slot.block)
            slot.taken.record(compute)
            yield self.minibatch

    def _lay_out(self, rows: Sequence[Batch]) -> None:
        torch.cuda.synchronize(self.device)
        self._layout = layout = _Layout(rows)
        size = max(layout.nbytes, 1)

        def block() -> Tensor:
            return torch.empty(size, dtype=torch.uint8, device=self.device)

        self._here = block()
        self._slots = [
            _Slot(torch.empty(size, dtype=torch.uint8).pin_memory(), block(), torch.cuda.Event(), torch.cuda.Event())
            for _ in range(self.count)
        ]
        views = layout.views(self._here)
        others = {name: views.pop(name) for name in ("frames", "memory", "importance")}
        self.minibatch = Minibatch(steps=views, **others)

    def _send(self, rows: Sequence[Batch]) -> _Slot:
        assert self._layout is not None
        slot = self._slots[self._turn % self.count]
        self._turn += 1
        slot.sent.synchronize()  # its bytes have left
        fields, start = self._layout.views(slot.pinned), 0
        for part in rows:
            for name, array in _arrays(part).items():
                fields[name][start : start + len(part)].copy_(torch.from_numpy(array))
            start += len(part)
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(slot.taken)
            slot.block.copy_(slot.pinned, non_blocking=True)
            slot.sent.record(self.stream)
        return slot


def _arrays(rows: Batch) -> dict[str, np.ndarray]:
    return {"frames": rows.frames, "memory": rows.memory, "importance": rows.importance, **rows.steps}


def _shapes(rows: Sequence[Batch]) -> list[tuple[str, tuple[int, ...], str]]:
    count = sum(len(r) for r in rows)
    return [(name, (count, *array.shape[1:]), array.dtype.str) for name, array in _arrays(rows[0]).items()]
