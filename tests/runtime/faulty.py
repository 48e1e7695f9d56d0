"""Gymnasium environments that go wrong: `env.id=tests.runtime.faulty:FaultyOnce-v0 env.kwargs.how=hang ...`."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np


class FaultyOnce(gymnasium.Env):  # type: ignore[type-arg]
    """Ends after ten steps. Whichever environment reaches step 500 goes wrong there in the first way that has not been
    seen yet: it stands still, raises, or gives a reward or an observation that nothing can be learned from.

    Args:
        flag: start of the names of the files that say what has happened.
        how: ways, joined by commas: "hang", "raise", "infinite" or "nan".
    """

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, flag: str, how: str, render_mode: str | None = None) -> None:
        self.flag, self.how, self.steps = flag, how.split(","), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        seen, reward = np.full(2, self.steps % 10 / 10, np.float32), float(action)
        how = self._next() if self.steps == 500 else ""
        if how == "hang":
            time.sleep(3600)
        if how == "raise":
            raise RuntimeError("one bad step")
        if how:
            seen, reward = (seen, float("inf")) if how == "infinite" else (seen * np.nan, reward)
        return seen, reward, self.steps % 10 == 0, False, {}

    def render(self) -> Any:
        if self.steps > 5:
            raise RuntimeError("the OpenGL context is lost")
        return np.zeros((20, 20, 3), np.uint8)

    def _next(self) -> str:
        for how in self.how:
            with suppress(FileExistsError):
                Path(f"{self.flag}-{how}").touch(exist_ok=False)
                return how
        return ""


class Endless(gymnasium.Env):  # type: ignore[type-arg]
    """Never ends, and always gives 1."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(2, np.float32), 1.0, False, False, {}


class Slow(Endless):
    """Takes ten milliseconds for a step as long as there is a file `flag`, and none after that."""

    def __init__(self, flag: str, render_mode: str | None = None) -> None:
        self.flag = Path(flag)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.flag.exists():
            time.sleep(0.01)
        return super().step(action)


gymnasium.register("FaultyOnce-v0", FaultyOnce)
gymnasium.register("Endless-v0", Endless)
gymnasium.register("Slow-v0", Slow)
