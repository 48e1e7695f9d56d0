"""The ring of segments against a plain dictionary of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.replay.storage import EPOCHS, SegmentRing, pack_keys, ring_spans, unpack_keys
from distdqn.types import Segment, take


def flat(window: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a window by name."""
    return {name: array for name, array in window.items() if name != "steps"} | window["steps"]


def with_steps(segments: Segment, **changed: np.ndarray) -> Segment:
    """`segments` with other per-step fields."""
    return replace(segments, steps=segments.steps | changed)


def naive_window(segment: dict[str, Any], offset: int, steps: int, stack: int) -> dict[str, np.ndarray]:
    """The window from `offset` on of one segment, sliced out of it."""
    window = {name: array[offset : offset + steps] for name, array in segment["steps"].items()}
    window["frames"] = segment["frames"][offset : offset + stack - 1 + steps + 1]
    stride = len(segment["valid"]) // len(segment["memory"])
    window["memory"] = segment["memory"][offset // stride]
    window["origin"] = np.array([*segment["origin"], offset])
    return window


@settings(max_examples=80, deadline=None)
@given(
    capacity=st.integers(1, 6),
    starts=st.integers(1, 6),
    steps=st.integers(1, 4),
    stack=st.integers(1, 4),
    pixels=st.booleans(),
    state=st.integers(1, 6),
    bonus=st.booleans(),
    adds=st.lists(st.integers(0, 6), min_size=1, max_size=12),
)
def test_windows_equal_those_of_a_dictionary(
    make_segments: Callable[..., Segment],
    capacity: int,
    starts: int,
    steps: int,
    stack: int,
    pixels: bool,
    state: int,
    bonus: bool,
    adds: list[int],
) -> None:
    ring, naive = SegmentRing(capacity, starts), {}
    stack, shape = (stack, (3, 2)) if pixels else (1, (3,))
    groups = math.gcd(state, starts)
    for number in adds:
        number = min(number, capacity)
        count = ring.count
        segments = make_segments(
            number, count, starts=starts, steps=steps, stack=stack, shape=shape, groups=groups, bonus=bonus
        )
        positions = ring.add(segments)
        assert positions.tolist() == [(count + k) % capacity for k in range(number)]
        naive.update({count + k: take(segments, k) for k in range(number)})
        for evicted in [n for n in naive if n < ring.count - capacity]:
            del naive[evicted]

        assert len(ring) == len(naive)
        assert ring.holds(np.arange(-1, ring.count + 2)).tolist() == [n in naive for n in range(-1, ring.count + 2)]
        insertions = ring.insertions(np.arange(len(ring)))
        assert sorted(insertions.tolist()) == sorted(naive)
        places, offsets = np.divmod(np.arange(len(ring) * starts), starts)
        got = flat(ring.windows(places, offsets))
        for row, (insertion, offset) in enumerate(zip(insertions[places], offsets, strict=True)):
            window = naive_window(naive[int(insertion)], int(offset), steps, stack)
            assert window.keys() == got.keys()
            for name, expected in window.items():
                np.testing.assert_array_equal(got[name][row], expected, err_msg=name)
                assert got[name].dtype == expected.dtype


@given(st.integers(0, EPOCHS - 1), st.lists(st.tuples(st.integers(0, 2**36 - 1), st.integers(0, 2**15 - 1))))
def test_keys_round_trip(epoch: int, pairs: list[tuple[int, int]]) -> None:
    insertion, offset = np.array(pairs, np.int64).reshape(-1, 2).T
    keys = pack_keys(epoch, insertion, offset)
    assert keys.dtype == np.int64
    assert (keys >= 0).all()
    assert len(set(keys.tolist())) == len(set(pairs))
    epochs, insertions, offsets = unpack_keys(keys)
    assert (epochs == epoch).all()
    assert insertions.tolist() == insertion.tolist()
    assert offsets.tolist() == offset.tolist()


def test_key_layout() -> None:
    assert pack_keys(3, np.array([5]), np.array([9])).tolist() == [3 * 2**51 + 5 * 2**15 + 9]


def test_ring_spans() -> None:
    assert list(ring_spans(2, 3, 5)) == [(slice(2, 5), slice(0, 3))]
    assert list(ring_spans(3, 4, 5)) == [(slice(3, 5), slice(0, 2)), (slice(0, 2), slice(2, 4))]


def test_what_a_batch_gets_is_a_copy(make_segments: Callable[..., Segment]) -> None:
    ring = SegmentRing(1, 4)
    ring.add(make_segments(1, 0))
    window = ring.windows(np.array([0]), np.array([1]))
    before = {name: array.copy() for name, array in flat(window).items()}
    ring.add(make_segments(1, 1))
    for name, array in flat(window).items():
        np.testing.assert_array_equal(array, before[name])


def test_numbers_that_are_not_to_be_had_are_left_out(make_segments: Callable[..., Segment]) -> None:
    ring = SegmentRing(3, 4)
    assert ring.skip_to(7) == [], "nothing is held yet"
    assert ring.add(make_segments(2, 0)).tolist() == [1, 2]
    assert ring.insertions(np.array([1, 2])).tolist() == [7, 8]
    assert ring.skip_to(9) == []
    assert ring.skip_to(10) == [slice(0, 1)]
    assert ring.skip_to(12) == [slice(1, 3)]
    assert ring.add(make_segments(1, 4)).tolist() == [0]


def test_memory_is_counted_as_it_fills(make_segments: Callable[..., Segment]) -> None:
    ring = SegmentRing(10, 4)
    assert ring.nbytes == 0
    ring.add(make_segments(2, 0))
    # T + L = 6 steps: frame 4, action 8, reward 4, two flags, age 4 bytes; 4 valid; 3 floats; 5 integers
    assert ring.nbytes == 2 * (6 * (4 + 8 + 4 + 1 + 1 + 4) + 4 + 3 * 4 + 5 * 8)


def test_refuses_what_does_not_belong_together(make_segments: Callable[..., Segment]) -> None:
    ring = SegmentRing(2, 4)
    with pytest.raises(ValueError, match="empty"):
        _ = ring.window
    good = make_segments(1)
    wrong: list[tuple[str, Segment]] = [
        ("reward is float64", with_steps(good, reward=good.reward.astype(np.float64))),
        ("last has shape", with_steps(good, last=good.last[:, 1:])),
        ("memory has 2", replace(good, memory=np.zeros((2, 1, 3), np.float32))),
        ("memory has shape", replace(good, memory=np.zeros((1, 3), np.float32))),
        ("memory has shape", replace(good, memory=np.zeros((1, 3, 3), np.float32))),  # 4 starts
        ("memory has shape", replace(good, memory=np.zeros((1, 0, 3), np.float32))),
        ("memory is float64", replace(good, memory=good.memory.astype(np.float64))),
        ("age has shape", with_steps(good, age=np.zeros((1, 6, 2), np.int32))),
        ("bonus has shape", with_steps(good, bonus=np.zeros((1, 4), np.float32))),
        ("must be .*'reward'", replace(good, steps={n: a for n, a in good.steps.items() if n != "reward"})),
        ("segments of 5 starts", make_segments(1, starts=5)),
        ("3 segments at once", make_segments(3)),
    ]
    for message, segments in wrong:
        with pytest.raises(ValueError, match=message):
            ring.add(segments)
    ring.add(good)
    assert ring.window == 2
    with pytest.raises(ValueError, match="frames has dtype and shape"):
        ring.add(make_segments(1, shape=(2,)))
    with pytest.raises(ValueError, match=r"segments of .*'bonus'"):
        ring.add(make_segments(1, bonus=True))
    assert ring.count == 1
    for place, offset in ((1, 0), (-1, 0), (0, 4), (0, -1)):
        with pytest.raises(IndexError):
            ring.windows(np.array([place]), np.array([offset]))
