"""Gymnasium environments that go wrong: `env.id=tests.runtime.faulty:FaultyOnce-v0 env.kwargs.how=hang ...`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np


class FaultyOnce(gymnasium.Env):  # type: ignore[type-arg]
    """Ends after ten steps; the first process that reaches step 500 of one environment stands still there, raises, or
    gives a reward or an observation that nothing can be learned from.

    Args:
        flag: file that says that it has happened.
        how: "hang", "raise", "infinite" or "nan".
    """

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, flag: str, how: str, render_mode: str | None = None) -> None:
        self.flag, self.how, self.steps = Path(flag), how, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        seen, reward = np.full(2, self.steps % 10 / 10, np.float32), float(action)
        if self.steps == 500 and self._first():
            if self.how == "hang":
                time.sleep(3600)
            if self.how == "raise":
                raise RuntimeError("one bad step")
            seen, reward = (seen, float("inf")) if self.how == "infinite" else (seen * np.nan, reward)
        return seen, reward, self.steps % 10 == 0, False, {}

    def render(self) -> Any:
        if self.steps > 5:
            raise RuntimeError("the OpenGL context is lost")
        return np.zeros((20, 20, 3), np.uint8)

    def _first(self) -> bool:
        try:
            self.flag.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Endless(gymnasium.Env):  # type: ignore[type-arg]
    """Never ends, and always gives 1."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(2, np.float32), 1.0, False, False, {}


gymnasium.register("FaultyOnce-v0", FaultyOnce)
gymnasium.register("Endless-v0", Endless)
