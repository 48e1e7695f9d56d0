"""A game whose emulator takes its time without taking a core, so that one machine can stand for several."""

from __future__ import annotations

import time

import numpy as np

from distdqn.config import EnvConfig
from distdqn.envs.catch import CatchEnv


class SlowCatch(CatchEnv):
    """Catch, whose steps take at least `step_s` seconds."""

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int, step_s: float = 0.01) -> None:
        super().__init__(config, num_slots, threads, seed)
        self._step_s = step_s

    def _move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(self._step_s)
        return super()._move(action)
