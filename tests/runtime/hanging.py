"""A Gymnasium environment that hangs once: `env.id=tests.runtime.hanging:HangsOnce-v0`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np


class HangsOnce(gymnasium.Env):  # type: ignore[type-arg]
    """Ends after ten steps; the first process that reaches step 500 of one environment stands still there.

    Args:
        flag: file that says that it has happened.
    """

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, flag: str) -> None:
        self.flag, self.steps = Path(flag), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 500:
            try:
                self.flag.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                time.sleep(3600)
        return np.full(2, self.steps % 10 / 10, np.float32), float(action), self.steps % 10 == 0, False, {}


gymnasium.register("HangsOnce-v0", HangsOnce)
