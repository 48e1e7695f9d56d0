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


def test_states_bonuses_and_what_comes_next() -> None:
    initial = np.array([[0.0, 5.0], [0.0, 6.0]], np.float32)
    segmenter = Segmenter(PIXELS, 2, 3, 2, initial)
    for k in (1, 2, 3, 4, 5):
        if segmenter.full:
            assert segmenter.steps().memory[:, 0].tolist() == [[0, 5], [0, 5], [1, 10], [2, 20], [3, 30]]
            assert segmenter.steps().bonus[:, 1].tolist() == [0, 0, 0.5, 1.0, 1.5]
            segmenter.roll()
        stacks = segmenter.observe(np.full((2, 1, 1), k, np.uint8)).copy()
        whole, state = np.full(2, k), np.array([[k, 10 * k]] * 2, np.float32)
        segmenter.before(whole, np.full((2, 2), k), whole, np.zeros(2, bool), state)
        ahead = segmenter.ahead(np.full((2, 1, 1), k + 1, np.uint8))
        assert ahead[:, 0, 0, 0].tolist() == [*stacks[1:, 0, 0, 0].tolist(), k + 1]
        segmenter.after(whole, np.zeros(2, bool), np.zeros(2, bool), np.full(2, 0.5 * k))
    segmenter.observe(np.zeros((2, 1, 1), np.uint8))
    segmenter.after(np.zeros(2), np.zeros(2, bool), np.zeros(2, bool))
    assert segmenter.steps().memory[:4, 1].tolist() == [[2, 20], [3, 30], [4, 40], [5, 50]]
    assert segmenter.steps().bonus[:, 0].tolist() == [1.0, 1.5, 2.0, 2.5, 0.0]
    frame = np.zeros((2, 3), np.float32)
    assert Segmenter(EnvSpec("vector", (3,), "float32", 1, 2), 2, 2, 1).ahead(frame) is frame


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
