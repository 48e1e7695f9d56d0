"""Catch: a ball falls, a paddle catches it (bsuite; Osband et al. 2020, after Mnih et al. 2014)."""

import numpy as np

from distdqn.config import EnvConfig
from distdqn.envs.array_env import ArrayEnv
from distdqn.envs.wrappers import enlarge
from distdqn.types import EnvSpec

ROWS, COLUMNS = 10, 5
ACTIONS = ("left", "stay", "right")


class CatchEnv(ArrayEnv):
    """N games of Catch, all slots in one array operation.

    The ball starts in a random column of the top row and falls a row a step; the paddle starts in the middle
    of the bottom row. The ninth step ends the game with reward 1 (caught) or -1 (missed), every other step
    gives 0. The best return is 1. Frames are uint8 `(10, 5)`, 0 or 255, and show the whole state: nothing is stacked.
    """

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int) -> None:
        super().__init__(EnvSpec("catch", (ROWS, COLUMNS), "uint8", 1, len(ACTIONS), 1, ACTIONS), num_slots, seed)
        self._rows = np.arange(num_slots)
        self._ball_x, self._paddle = np.zeros((2, num_slots), np.int64)

    def _start(self, which: np.ndarray) -> None:
        self._ball_x[which] = self._rng.integers(COLUMNS, size=int(which.sum()))
        self._paddle[which] = COLUMNS // 2

    def _move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._paddle = np.clip(self._paddle + action - 1, 0, COLUMNS - 1)
        over, caught = self._age == ROWS - 1, self._paddle == self._ball_x
        return np.where(over, np.where(caught, 1, -1), 0).astype(np.float32), over

    def _frames(self) -> np.ndarray:
        frame = np.zeros((self.num_slots, ROWS, COLUMNS), np.uint8)
        frame[self._rows, ROWS - 1, self._paddle] = 255
        frame[self._rows, self._age, self._ball_x] = 255
        return frame

    def render(self) -> np.ndarray:
        """The first slot's board, enlarged, uint8 `[H, W, 3]`."""
        return enlarge(self._frames()[0])
