"""The ring of segments: every frame once, windows cut out of it when they are sampled.

Keys name a window for as long as anyone may ask for it, in one non-negative int64:

    | 0 | epoch: 12 bits | insertion: 36 bits | offset: 15 bits |

`epoch` tells a shard from the one it replaced, `insertion` counts the segments ever added to the shard,
`offset` is the window's start in its segment. A segment's place in the ring is `insertion % capacity`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from distdqn.types import STEP_FIELDS, Segment, named_arrays

OFFSET_BITS, INSERTION_BITS, EPOCH_BITS = 15, 36, 12
EPOCHS = 1 << EPOCH_BITS
"""Epochs that a key can tell apart."""

_OF_A_SEGMENT = ("frames", "valid", "memory", "origin")
"""What is held beside the steps' fields."""
_DTYPES = {"valid": "bool", "memory": "float32", "origin": "int64", **{f.name: f.dtype for f in STEP_FIELDS}}
_SHAPES = {f.name: f.shape for f in STEP_FIELDS}


def pack_keys(epoch: int, insertion: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Keys int64 `[B]` of the windows that start at `offset` `[B]` of the segments `insertion` `[B]`."""
    segment = (np.int64(epoch) << INSERTION_BITS) | insertion
    return (segment << OFFSET_BITS) | offset


def unpack_keys(key: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epoch, insertion and offset, int64 `[B]` each, of keys int64 `[B]`."""
    key = np.asarray(key, np.int64)
    insertion = (key >> OFFSET_BITS) & ((1 << INSERTION_BITS) - 1)
    return key >> (INSERTION_BITS + OFFSET_BITS), insertion, key & ((1 << OFFSET_BITS) - 1)


def ring_spans(first: int, count: int, capacity: int) -> Iterator[tuple[slice, slice]]:
    """The at most two contiguous pieces of `count` places of a ring from place `first` on: (places, rows)."""
    head = min(count, capacity - first)
    yield slice(first, first + head), slice(0, head)
    if count > head:
        yield slice(0, count - head), slice(head, count)


def window_view(array: np.ndarray, steps: int) -> np.ndarray:
    """Every run of `steps` consecutive rows of `array` `[C, R, ...]`, flat: a view `[C * R - steps + 1, -1]`.

    Row `c * R + r` holds the steps from `array[c, r]` on. They lie next to each other in memory, so that
    indexing with one integer per window copies each in one piece. An index per frame, `np.take` per frame and
    a loop of slices gather 512 windows in about the same time, within a third: memory sets the pace.
    """
    row = int(np.prod(array.shape[2:], dtype=np.int64))
    return sliding_window_view(array.reshape(-1), steps * row)[::row]


class SegmentRing:
    """The newest `capacity` segments with `segment_steps` = T window starts each. The arrays are allocated at the first
    `add`, from the shapes that it brings, as zero pages that the operating system commits as they are written. All
    segments of a ring have the same shapes."""

    def __init__(self, capacity: int, segment_steps: int) -> None:
        if capacity < 1 or not 1 <= segment_steps <= 1 << OFFSET_BITS:
            raise ValueError(f"capacity={capacity}, segment_steps={segment_steps}: at least 1 and 1 to 32768")
        self.capacity, self.segment_steps = capacity, segment_steps
        self.count = 0
        """Segments ever added, which is the next insertion number."""
        self._arrays: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes of the segments held; what is not yet filled is not yet committed."""
        return sum(a[: len(self)].nbytes for a in self._arrays.values())

    @property
    def window(self) -> int:
        """L, the steps of a window: a segment has T + L steps. Known from the first `add` on."""
        if not self._arrays:
            raise ValueError("the ring is empty: no segment has told the window's length yet")
        return int(self._arrays["action"].shape[1]) - self.segment_steps

    def add(self, segments: Segment) -> np.ndarray:
        """Stores K <= capacity segments in place of the oldest; their places int64 `[K]`. ValueError, before anything
        is stored, for K > capacity or for shapes or dtypes that are not those of `Segment` or of the segments held."""
        incoming = {name: array for name, array in named_arrays(segments).items() if name != "priority"}
        number = len(segments)
        if number > self.capacity:
            raise ValueError(f"{number} segments at once: the ring holds {self.capacity}")
        self._check(incoming, number)
        if not self._arrays:
            self._allocate(incoming)
        for places, rows in ring_spans(self.count % self.capacity, number, self.capacity):
            for name, array in incoming.items():
                self._arrays[name][places] = array[rows]
        positions = (self.count + np.arange(number)) % self.capacity
        self.count += number
        return positions

    def windows(self, positions: np.ndarray, offsets: np.ndarray) -> dict[str, Any]:
        """The arrays of a `Batch`, copied, of the windows from `offsets` int64 `[B]` on in the segments at `positions`
        int64 `[B]`: `frames` `[B, S-1+L+1, ...]`, `steps` `[B, L, ...]` each, `memory` `[B, M]` of the window's start
        (of the latest one before it that has any), `origin` int64 `[B, 6]`. IndexError outside the segments held."""
        positions, offsets = np.asarray(positions, np.int64), np.asarray(offsets, np.int64)
        held = (positions >= 0) & (positions < len(self)) & (offsets >= 0) & (offsets < self.segment_steps)
        if not held.all():
            raise IndexError(f"a window outside {len(self)} segments of {self.segment_steps} starts")

        def windows(array: np.ndarray, length: int) -> np.ndarray:
            gathered = window_view(array, length)[positions * array.shape[1] + offsets]
            return gathered.reshape(len(positions), length, *array.shape[2:])

        frames, memory = self._arrays["frames"], self._arrays["memory"]
        return {
            "frames": windows(frames, frames.shape[1] - self.segment_steps + 1),
            "steps": {n: windows(a, self.window) for n, a in self._arrays.items() if n not in _OF_A_SEGMENT},
            "memory": memory[positions, offsets * memory.shape[1] // self.segment_steps],
            "origin": np.column_stack((self._arrays["origin"][positions], offsets)),
        }

    def insertions(self, positions: np.ndarray) -> np.ndarray:
        """The insertion numbers int64 `[B]` of the segments now at `positions` int64 `[B]`."""
        newest = self.count - 1
        return newest - (newest - positions) % self.capacity

    def holds(self, insertions: np.ndarray) -> np.ndarray:
        """Which of the segments `insertions` int64 `[B]` have been added and not evicted, bool `[B]`."""
        return (insertions >= self.count - len(self)) & (insertions < self.count)

    def skip_to(self, insertion: int) -> list[slice]:
        """Makes `insertion` the next segment's number, where those before it are not to be had; their places."""
        missing = min(insertion - self.count, self.capacity) if self._arrays else 0
        first, self.count = insertion - missing, insertion
        return [places for places, _ in ring_spans(first % self.capacity, missing, self.capacity)] if missing else []

    def _allocate(self, like: dict[str, np.ndarray]) -> None:
        self._arrays = {name: np.zeros((self.capacity, *a.shape[1:]), a.dtype) for name, a in like.items()}

    def _check(self, incoming: dict[str, np.ndarray], number: int) -> None:
        expected = self._arrays.keys() or incoming.keys() | _DTYPES.keys()
        if incoming.keys() != expected:
            raise ValueError(f"segments of {sorted(incoming)}, must be {sorted(expected)}")
        for name, array in incoming.items():
            if array.dtype != _DTYPES.get(name, array.dtype):
                raise ValueError(f"{name} is {array.dtype}, must be {_DTYPES[name]}")
            new, held = ((a.dtype, a.shape[1:]) for a in (array, self._arrays.get(name, array)))
            if new != held:
                raise ValueError(f"{name} has dtype and shape {new}, the segments held have {held}")
            if len(array) != number:
                raise ValueError(f"{name} has {len(array)} segments, action has {number}")
        starts, steps, frames = (incoming[n].shape[1] for n in ("valid", "action", "frames"))
        if starts != self.segment_steps or steps <= starts or frames < steps:
            must = f"must be T = {self.segment_steps}, more than T, and at least the steps"
            raise ValueError(f"segments of {starts} starts, {steps} steps and {frames} frames: {must}")
        for name in incoming.keys() - set(_OF_A_SEGMENT):
            shape = (number, steps, *_SHAPES.get(name, incoming[name].shape[2:]))
            if incoming[name].shape != shape:
                raise ValueError(f"{name} has shape {incoming[name].shape}, must be {shape}")
        memory = incoming["memory"]
        if memory.ndim != 3 or not memory.shape[1] or starts % memory.shape[1]:
            raise ValueError(f"memory has shape {memory.shape}, must be (K, G, M) with G a divisor of T = {starts}")
