"""Stacks and ages of slots, however many frames are kept."""

from __future__ import annotations

import numpy as np
import pytest

from distdqn.act.history import History
from distdqn.types import EnvSpec


@pytest.mark.parametrize("room", [1, 2, 7])
@pytest.mark.parametrize("frame_shape", [(2, 1), (2, 1, 3)])
def test_by_hand(room: int, frame_shape: tuple[int, ...]) -> None:
    """Slot 0 ends an episode with step 2, slot 1 with steps 0 and 2: the step after each end is a dummy."""
    spec = EnvSpec("pixels", frame_shape, "uint8", 3, 2)

    def frame(k: int) -> np.ndarray:
        return np.stack([np.full(frame_shape, k, np.uint8), np.full(frame_shape, k + 100, np.uint8)])

    ends = [[False, True], [False, False], [True, True], [False, False], [False, False]]
    history = History(spec, frame(0), room)
    seen, ages, dummies = [], [], []
    for k, last in enumerate(ends):
        assert history.stacks.shape == (3, 2, *frame_shape)
        seen.append(history.stacks.reshape(3, 2, -1)[:, 1, 0].tolist())
        ages.append(history.age.tolist())
        dummies.append(history.dummy.tolist())
        history.push(frame(k + 1), np.array(last))
    assert seen == [[0, 0, 100], [0, 100, 101], [100, 101, 102], [101, 102, 103], [102, 103, 104]]
    # at a dummy the age counts on: its stack ends in the last frame of the episode
    assert ages == [[0, 0], [1, 1], [2, 0], [3, 1], [0, 0]]
    assert dummies == [[False, False], [False, True], [False, False], [True, True], [False, False]]
    assert history.age.dtype == np.int32


def test_vectors_have_no_stack() -> None:
    frame = np.arange(6, dtype=np.float32).reshape(2, 3)
    history = History(EnvSpec("vector", (3,), "float32", 1, 2), frame)
    np.testing.assert_array_equal(history.stacks, frame)
    history.push(frame + 1, np.zeros(2, bool))
    np.testing.assert_array_equal(history.stacks, frame + 1)
