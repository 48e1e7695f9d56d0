"""Recall: name, at the end of a corridor, the cue that was shown at its start. The T-maze of Bakker 2002 and the memory
length of bsuite (Osband et al. 2020), with four cues."""

import numpy as np

from distdqn.config import EnvConfig
from distdqn.envs.array_env import ArrayEnv
from distdqn.envs.wrappers import enlarge
from distdqn.types import EnvSpec

CUES = 4
"""Four rather than two: a guess is right one time in four only."""
ACTIONS = tuple(f"cue_{i}" for i in range(CUES))
QUESTION = CUES
"""The component of a frame that is 1 at the question; those before it are the one-hot cue."""
COLOURS = ((200, 60, 60), (60, 160, 60), (80, 80, 220), (210, 180, 50))


def observations(config: EnvConfig) -> np.ndarray:
    """The frame of each cue and step, float32 `[CUES, length + 2, CUES + 1]`. Step 0 shows the cue, steps 1 to `length`
    are the corridor (all zero), the last one is the question. The frame after the answer, which no action is taken on,
    is zero and not among them."""
    frames = np.zeros((CUES, config.length + 2, CUES + 1), np.float32)
    frames[:, 0, :CUES] = np.eye(CUES)
    frames[:, -1, QUESTION] = 1
    return frames


def rewards() -> np.ndarray:
    """The reward of each cue and answer, float64 `[CUES, CUES]`: 1 for the cue's own name, else -1."""
    return np.asarray(2 * np.eye(CUES) - 1)


class RecallEnv(ArrayEnv):
    """N corridors of `config.length` steps, all slots in one array operation.

    An episode shows one of four cues, drawn uniformly; then for `length` steps nothing; then a question. The
    action on the question ends the episode, with reward 1 if it names the cue and -1 if not. All other
    actions do nothing and give 0. With a memory the best expected return is 1, without one 1/4 - 3/4 = -0.5; a
    stack would have to hold `length` + 2 frames to do better.
    """

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int) -> None:
        spec = EnvSpec(f"recall/{config.length}", (CUES + 1,), "float32", 1, CUES, 1, ACTIONS)
        super().__init__(spec, num_slots, seed)
        after = np.zeros((CUES, 1, CUES + 1), np.float32)
        self._observations = np.concatenate([observations(config), after], axis=1)
        self._rewards = rewards().astype(np.float32)
        self._question = config.length + 1
        self._cue = np.zeros(num_slots, np.int64)

    def _start(self, which: np.ndarray) -> None:
        self._cue[which] = self._rng.integers(CUES, size=int(which.sum()))

    def _move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answered = self._age == self._question + 1
        return np.where(answered, self._rewards[self._cue, action], np.float32(0)), answered

    def _frames(self) -> np.ndarray:
        return self._observations[self._cue, self._age]

    def render(self) -> np.ndarray:
        """The first slot's corridor from left to right, enlarged, uint8 `[H, W, 3]`. The agent is white; the cue's
        colour is at the start, and at the question too, for who looks on."""
        cells = np.full((1, self._question + 1, 3), 40, np.uint8)
        cells[0, [0, -1]] = COLOURS[self._cue[0]]
        cells[0, min(self._age[0], self._question)] = 255
        return enlarge(cells)
