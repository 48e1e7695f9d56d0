"""The segmenter's buffer: overlap, fields of one's own, and misuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distdqn.act.segmenter import Segmenter
from distdqn.types import BONUS, EnvSpec, EnvStep, StepField

PIXELS = EnvSpec("pixels", (1, 1), "uint8", 3, 2)


def frames(k: int) -> np.ndarray:
    """Those of two slots at step `k`."""
    return np.array([[[k]], [[k + 100]]], np.uint8)


def play(segmenter: Segmenter, k: int, memory: np.ndarray | None = None, **after: Any) -> np.ndarray:
    """Step `k` of two slots, all of whose figures are k; both end an episode at step 3. Gives the first's stack."""
    stacks, whole = segmenter.history.stacks.copy(), np.full(2, k)
    segmenter.before(np.full((2, 2), k), whole, memory)
    step = EnvStep(frames(k + 1), whole, np.array([k == 5] * 2), np.array([k == 3] * 2))
    segmenter.history.push(step.frame, step.last)
    segmenter.after(step, **after)
    return stacks[:, 0, 0, 0]


def test_by_hand() -> None:
    segmenter = Segmenter(PIXELS, frames(1), rollout_steps=3, window=2)
    assert [play(segmenter, k).tolist() for k in (1, 2, 3)] == [[0, 0, 1], [0, 1, 2], [1, 2, 3]]
    rollout = segmenter.rollout()
    assert rollout.frames[:, 0, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert rollout.age[:, 0].tolist() == [-1, -1, 0, 1, 2]
    assert rollout.dummy[:, 0].tolist() == [True, True, False, False, False]
    assert rollout.action[:, 1].tolist() == [0, 0, 1, 2, 3]
    segmenter.roll()
    assert [play(segmenter, k).tolist() for k in (4, 5, 6)] == [[2, 3, 4], [3, 4, 5], [4, 5, 6]]
    rollout = segmenter.rollout()
    assert rollout.frames[:, 1, 0, 0].tolist() == [0, 101, 102, 103, 104, 105, 106]
    for name in ("action", "reward"):
        assert getattr(rollout, name)[:, 0].tolist() == [2, 3, 4, 5, 6]
    assert rollout.q[:, 0, 1].tolist() == [2, 3, 4, 5, 6]
    assert rollout.age[:, 1].tolist() == [1, 2, -1, 0, 1], "step 4 is the dummy"
    assert rollout.last[:, 0].tolist() == [False, True, False, False, False]
    assert rollout.terminated[:, 0].tolist() == [False, False, False, True, False]


def test_states_and_bonuses() -> None:
    initial = np.array([[0.0, 5.0], [0.0, 6.0]], np.float32)
    segmenter = Segmenter(PIXELS, frames(1), 3, 2, initial, (BONUS,))
    for k in (1, 2, 3, 4, 5, 6):
        play(segmenter, k, np.array([[k, 10 * k]] * 2, np.float32), bonus=np.full(2, 0.5 * k))
        if k == 3:
            assert segmenter.rollout().memory[:, 0].tolist() == [[0, 5], [0, 5], [1, 10], [2, 20], [3, 30]]
            assert segmenter.rollout().bonus[:, 1].tolist() == [0, 0, 0.5, 1.0, 1.5]
            segmenter.roll()
    assert segmenter.rollout().memory[:, 1].tolist() == [[2, 20], [3, 30], [4, 40], [5, 50], [6, 60]]
    assert segmenter.rollout().bonus[:, 0].tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]


def test_every_field_is_given_at_every_step_and_no_other() -> None:
    segmenter = Segmenter(PIXELS, frames(1), 3, 2, extra=[BONUS])
    with pytest.raises(ValueError, match=r"^given of the step: .*'action', 'age', 'last'.* to be kept: .*'bonus'"):
        play(segmenter, 1)
    with pytest.raises(ValueError, match=r"given of the step: .*'sight'"):
        play(segmenter, 2, bonus=np.zeros(2), sight=np.zeros(2))


@pytest.mark.parametrize("name", ["reward", "frames", "importance", "q", "dummy"])
def test_a_field_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: each needs a name of its own"):
        Segmenter(PIXELS, frames(1), 3, 2, extra=[StepField(name, "float32")])


@pytest.mark.parametrize(("steps", "window"), [(3, 4), (3, 0)])
def test_a_window_must_fit(steps: int, window: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Segmenter(PIXELS, frames(1), steps, window)


def test_an_unfinished_rollout_is_not_given_out() -> None:
    segmenter = Segmenter(PIXELS, frames(1), 3, 2)
    play(segmenter, 1)
    assert not segmenter.full
    with pytest.raises(RuntimeError, match="3 steps, 1 are there"):
        segmenter.rollout()
