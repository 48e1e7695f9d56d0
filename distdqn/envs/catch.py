"""Catch: a ball falls, a paddle catches it (bsuite; Osband et al. 2020, after Mnih et al. 2014)."""

from __future__ import annotations

import numpy as np

from distdqn.config import EnvConfig
from distdqn.envs.wrappers import check_actions, enlarge
from distdqn.types import EnvSpec, EnvStep

ROWS, COLUMNS = 10, 5
ACTIONS = ("left", "stay", "right")


def catch_spec(config: EnvConfig) -> EnvSpec:
    """Frames are uint8 `(10, 5)`, 0 or 255; one frame shows the whole state, so nothing is stacked."""
    return EnvSpec("catch", (ROWS, COLUMNS), "uint8", 1, len(ACTIONS), 1, ACTIONS)


class CatchEnv:
    """N games of Catch, all slots in one array operation.

    The ball starts in a random column of the top row and falls a row a step; the paddle starts in the middle
    of the bottom row. The ninth step ends the game with reward 1 (caught) or -1 (missed), every other step
    gives 0. The best return is 1.
    """

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int) -> None:
        self.spec = catch_spec(config)
        self.num_slots = num_slots
        self._rng = np.random.default_rng(seed)
        self._rows = np.arange(num_slots)
        self._ball_x, self._ball_y, self._paddle = np.zeros((3, num_slots), np.int64)
        self._last = np.zeros(num_slots, bool)

    def _start(self, which: np.ndarray) -> None:
        """Starts the next game of the slots in `which`, bool `[N]`."""
        self._ball_x[which] = self._rng.integers(COLUMNS, size=int(which.sum()))
        self._ball_y[which] = 0
        self._paddle[which] = COLUMNS // 2
        self._last[which] = False

    def _frame(self) -> np.ndarray:
        frame = np.zeros((self.num_slots, ROWS, COLUMNS), np.uint8)
        frame[self._rows, ROWS - 1, self._paddle] = 255
        frame[self._rows, self._ball_y, self._ball_x] = 255
        return frame

    def reset(self) -> np.ndarray:
        """See `VectorEnv`."""
        self._start(np.ones(self.num_slots, bool))
        return self._frame()

    def step(self, action: np.ndarray) -> EnvStep:
        """See `VectorEnv`."""
        action = check_actions(action, self.num_slots, len(ACTIONS))
        live = ~self._last
        self._paddle = np.clip(self._paddle + live * (action - 1), 0, COLUMNS - 1)
        self._ball_y = self._ball_y + live
        over = live & (self._ball_y == ROWS - 1)
        reward = np.where(over, np.where(self._paddle == self._ball_x, 1.0, -1.0), 0.0).astype(np.float32)
        self._start(self._last)
        self._last = over
        return EnvStep(self._frame(), reward, over.copy(), over.copy())

    def render(self) -> np.ndarray:
        """The first slot's board, enlarged, uint8 `[H, W, 3]`."""
        return enlarge(self._frame()[0])

    def close(self) -> None:
        """See `VectorEnv`."""
