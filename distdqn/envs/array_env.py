"""What the proving grounds share: all slots step in one array operation."""

import numpy as np

from distdqn.envs.wrappers import check_actions
from distdqn.types import EnvSpec, EnvStep


class ArrayEnv:
    """A `VectorEnv` whose kind says how episodes start (`_start`), move (`_move`) and look (`_frames`, `render`).
    `_age` int64 `[N]` are the steps since each slot's episode began; at `step_limit` it is truncated."""

    step_limit: float = np.inf

    def __init__(self, spec: EnvSpec, num_slots: int, seed: int) -> None:
        self.spec, self.num_slots = spec, num_slots
        self._rng = np.random.default_rng(seed)

    def _start(self, which: np.ndarray) -> None:
        """Starts the next episode of the slots in `which`, bool `[N]`."""
        raise NotImplementedError

    def _move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reward float32 `[N]` and terminated bool `[N]` of a step of all slots; a dummy's are ignored."""
        raise NotImplementedError

    def _frames(self) -> np.ndarray:
        """The frames of all slots, in new memory."""
        raise NotImplementedError

    def reset(self) -> np.ndarray:
        self._age, self._last = np.zeros(self.num_slots, np.int64), np.zeros(self.num_slots, bool)
        self._start(~self._last)
        return self._frames()

    def step(self, action: np.ndarray) -> EnvStep:
        action, dummy = check_actions(action, self.num_slots, self.spec.num_actions), self._last
        self._age += 1
        reward, terminated = self._move(action)
        self._age[dummy] = 0
        self._start(dummy)
        reward, terminated = np.where(dummy, np.float32(0), reward), terminated & ~dummy
        self._last = terminated | (self._age >= self.step_limit)
        return EnvStep(self._frames(), reward, terminated, self._last.copy())

    def render(self) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing to free."""
