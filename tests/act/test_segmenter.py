"""The segmenter's buffer: stacks, overlap, and misuse."""

from __future__ import annotations

import numpy as np
import pytest

from distdqn.act.segmenter import Segmenter
from distdqn.types import EnvSpec

PIXELS = EnvSpec("pixels", (1, 1), "uint8", 3, 2)


def play(segmenter: Segmenter, k: int) -> np.ndarray:
    """Step `k` of two slots, all of whose figures are k."""
    stacks = segmenter.observe(np.array([[[k]], [[k + 100]]], np.uint8)).copy()
    whole = np.full(2, k)
    segmenter.before(whole, np.full((2, 2), k), whole, np.array([False, k == 4]))
    segmenter.after(whole, np.array([k == 5] * 2), np.array([k == 3] * 2))
    return stacks[:, 0, 0, 0]


def test_by_hand() -> None:
    segmenter = Segmenter(PIXELS, 2, rollout_steps=3, window=2)
    assert [play(segmenter, k).tolist() for k in (1, 2, 3)] == [[0, 0, 1], [0, 1, 2], [1, 2, 3]]
    steps = segmenter.steps()
    assert steps.frames[:, 0, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert steps.real[:, 0].tolist() == [False, False, True, True, True]
    assert steps.action[:, 1].tolist() == [0, 0, 1, 2, 3]
    segmenter.roll()
    assert [play(segmenter, k).tolist() for k in (4, 5, 6)] == [[2, 3, 4], [3, 4, 5], [4, 5, 6]]
    steps = segmenter.steps()
    assert steps.frames[:, 1, 0, 0].tolist() == [0, 101, 102, 103, 104, 105, 106]
    for name in ("action", "reward", "age"):
        assert getattr(steps, name)[:, 0].tolist() == [2, 3, 4, 5, 6]
    assert steps.q[:, 0, 1].tolist() == [2, 3, 4, 5, 6]
    assert steps.real[:, 1].tolist() == [True, True, False, True, True]
    assert steps.last[:, 0].tolist() == [False, True, False, False, False]
    assert steps.terminated[:, 0].tolist() == [False, False, False, True, False]


def test_vectors_have_no_stack() -> None:
    segmenter = Segmenter(EnvSpec("vector", (3,), "float32", 1, 2), 2, 2, 1)
    frame = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(segmenter.observe(frame), frame)


@pytest.mark.parametrize(("steps", "window"), [(3, 4), (3, 0)])
def test_a_window_must_fit(steps: int, window: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Segmenter(PIXELS, 1, steps, window)


def test_an_unfinished_rollout_is_not_given_out() -> None:
    segmenter = Segmenter(PIXELS, 2, 3, 2)
    play(segmenter, 1)
    assert not segmenter.full
    with pytest.raises(RuntimeError, match="3 steps, 1 are there"):
        segmenter.steps()
