"""A game whose emulator takes its time without taking a core, so that one machine can stand for several."""

from __future__ import annotations

import time

import numpy as np

from distdqn.envs.catch import CatchEnv


class SlowCatch(CatchEnv):
    """Catch, at no more than 100 steps a second."""

    def _move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(0.01)
        return super()._move(action)
