"""A small gridworld whose optimal action values are known exactly."""

import numpy as np

from distdqn.config import EnvConfig
from distdqn.envs.array_env import ArrayEnv
from distdqn.envs.wrappers import enlarge
from distdqn.types import EnvSpec

ACTIONS = ("up", "right", "down", "left")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
STEP_REWARD, GOAL_REWARD, PIT_REWARD = -0.01, 1.0, -1.0
STEP_LIMIT = 100
"""Steps after which an episode is truncated."""


def goal(config: EnvConfig) -> int:
    """The state in the bottom right corner: reward 1, terminal."""
    return config.size**2 - 1


def pit(config: EnvConfig) -> int:
    """The state above the goal: reward -1, terminal."""
    return goal(config) - config.size


def nonterminal(config: EnvConfig) -> np.ndarray:
    """bool `[size^2]`: the states in which actions are taken; an episode may start in any of them."""
    mask = np.ones(config.size**2, bool)
    mask[[goal(config), pit(config)]] = False
    return mask


def observations(config: EnvConfig) -> np.ndarray:
    """The frame of every state, one-hot with state = row * size + column, float32 `[size^2, size^2]`."""
    return np.eye(config.size**2, dtype=np.float32)


def transitions(config: EnvConfig) -> tuple[np.ndarray, np.ndarray]:
    """Next state of each state and direction, int64 `[size^2, 4]`, and the reward of entering each state,
    float64 `[size^2]` (staying in front of a wall enters the state again)."""
    n = config.size
    row, column = np.divmod(np.arange(n * n), n)
    moved = [np.clip(row + dr, 0, n - 1) * n + np.clip(column + dc, 0, n - 1) for dr, dc in MOVES]
    reward = np.full(n * n, STEP_REWARD)
    reward[goal(config)], reward[pit(config)] = GOAL_REWARD, PIT_REWARD
    return np.stack(moved, axis=1), reward


class GridworldEnv(ArrayEnv):
    """N gridworlds of `config.size` squared cells, all slots in one array operation.

    The four actions move one cell, walls keep one in place, and with probability `config.slip` the direction
    is drawn uniformly from all four instead. Entering the goal gives 1 and the pit -1, both end the episode;
    any other step gives -0.01. Episodes start in a random non-terminal state, so that every state is visited,
    and are truncated after 100 steps.
    """

    step_limit = STEP_LIMIT

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int) -> None:
        n = config.size
        spec = EnvSpec(f"gridworld/{n}x{n}", (n * n,), "float32", 1, len(ACTIONS), 1, ACTIONS)
        super().__init__(spec, num_slots, seed)
        self._config = config
        self._next_state, reward = transitions(config)
        self._reward = reward.astype(np.float32)
        self._observations = observations(config)
        self._live = nonterminal(config)
        self._starts = np.flatnonzero(self._live)
        self._state = np.zeros(num_slots, np.int64)

    def _start(self, which: np.ndarray) -> None:
        self._state[which] = self._rng.choice(self._starts, size=int(which.sum()))

    def _move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slipped = self._rng.random(self.num_slots) < self._config.slip
        direction = np.where(slipped, self._rng.integers(len(ACTIONS), size=self.num_slots), action)
        self._state = self._next_state[self._state, direction]
        return self._reward[self._state], ~self._live[self._state]

    def _frames(self) -> np.ndarray:
        return self._observations[self._state]

    def render(self) -> np.ndarray:
        """The first slot's grid, enlarged, uint8 `[H, W, 3]`: agent white, goal green, pit red."""
        n = self._config.size
        cells = np.full((n * n, 3), 40, np.uint8)
        cells[goal(self._config)], cells[pit(self._config)] = (0, 160, 0), (160, 0, 0)
        cells[self._state[0]] = 255
        return enlarge(cells.reshape(n, n, 3))
