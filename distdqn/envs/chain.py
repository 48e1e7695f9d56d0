"""The chain of Osband et al. 2016 (Bootstrapped DQN, section 5): a small reward near, a large one far away."""

import numpy as np

from distdqn.config import EnvConfig
from distdqn.envs.array_env import ArrayEnv
from distdqn.envs.wrappers import enlarge
from distdqn.types import EnvSpec

NEAR_REWARD, FAR_REWARD = 0.001, 1.0
EXTRA_STEPS = 9
"""An episode has this many steps more than the chain has states."""
START = 1
"""The second state from the left."""


def step_limit(config: EnvConfig) -> int:
    """Steps of an episode, N + 9, which leave time for twelve rewards at the far end (eleven where N = 2)."""
    return config.length + EXTRA_STEPS


def observations(config: EnvConfig) -> np.ndarray:
    """The frame of every state s, in thermometer code: the x-th component is 1(x <= s), float32 `[N, N]`."""
    return np.tri(config.length, dtype=np.float32)


def right_action(config: EnvConfig) -> np.ndarray:
    """The action that moves right in each state, int64 `[N]`; the other one moves left. Drawn once for each length, the
    same in every run. Were it one action everywhere, as in the paper, an untrained network whose greedy action is the
    same in every state would have an even chance of walking to the far end."""
    return np.random.default_rng(config.length).integers(2, size=config.length)


def transitions(config: EnvConfig) -> tuple[np.ndarray, np.ndarray]:
    """Next state of each state and direction (0 left, 1 right), int64 `[N, 2]`, and the reward of entering
    each state, float64 `[N]` (a move against an end enters it again)."""
    state = np.arange(config.length)
    reward = np.zeros(config.length)
    reward[0], reward[-1] = NEAR_REWARD, FAR_REWARD
    return np.clip(state[:, None] + [-1, 1], 0, config.length - 1), reward


class ChainEnv(ArrayEnv):
    """N chains of `config.length` states, all slots in one array operation.

    An episode starts in the second state from the left. One action moves left and the other one right; which
    does which differs from state to state, and an end holds a move against it. Entering the left end gives
    0.001, the right end 1, any other state 0. After length + 9 steps the episode is truncated, never
    terminated, so that values do not depend on the time that is left. The best return is 12 (11 where the
    length is 2 and the start is the right end).

    The left end is found at once, and whoever settles there seldom sees the right one. The probability that
    an episode does, by length:

                                             6        10       15        20        30
        uniformly random                     0.38     0.075    0.0075    6.1e-4    2.6e-6
        greedy to the left, epsilon = 0.4    6.6e-3   2.1e-5   1.5e-8    9.7e-12   3.4e-18
        greedy to the left, epsilon = 0.1    1.1e-5   8.0e-11  3.2e-17   1.3e-23   2.0e-36

    So of the 12,000 episodes in 300,000 steps at length 15 about 90 see it at random, and none by
    epsilon-greedy. An agent that stays near random until it has seen the right end can solve it.
    """

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int) -> None:
        spec = EnvSpec(f"chain/{config.length}", (config.length,), "float32", 1, 2, 1, ("0", "1"))
        super().__init__(spec, num_slots, seed)
        self.step_limit = step_limit(config)
        self._observations = observations(config)
        self._right = right_action(config)
        self._next_state, reward = transitions(config)
        self._reward = reward.astype(np.float32)
        self._state = np.full(num_slots, START)

    def _start(self, which: np.ndarray) -> None:
        self._state[which] = START

    def _move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        direction = (action == self._right[self._state]).astype(np.int64)
        self._state = self._next_state[self._state, direction]
        return self._reward[self._state], np.zeros(self.num_slots, bool)

    def _frames(self) -> np.ndarray:
        return self._observations[self._state]

    def render(self) -> np.ndarray:
        """The first slot's chain, enlarged, uint8 `[H, W, 3]`: agent white, far end green."""
        cells = np.full((1, len(self._observations), 3), 40, np.uint8)
        cells[0, -1] = (0, 160, 0)
        cells[0, self._state[0]] = 255
        return enlarge(cells)
