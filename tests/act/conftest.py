"""A told story: episodes written down first, played by an environment afterwards, and the windows that follow
from the episodes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from distdqn.types import EnvSpec, EnvStep

Plot = tuple[int, bool, frozenset[int]]
"""An episode's steps, whether it is truncated at its end (else terminated), and the steps that lose a life."""


@dataclass(frozen=True)
class Episode:
    """`frames` x_0 ... x_n, `reward` and `terminated` of its n steps; x_0 is frame `first` of the slot's stream."""

    first: int
    frames: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray


class Window(NamedTuple):
    """What a naive list of transitions says of one window."""

    observation: np.ndarray
    returns: float
    discount: float
    steps: int
    bootstrap: np.ndarray


class Story:
    """Episodes of N slots, each `length` steps of the stream or a little longer; plots repeat.

    No two frames are alike and no byte of them is zero, so that nothing passes for something else.
    """

    def __init__(self, spec: EnvSpec, plots: list[list[Plot]], length: int, seed: int) -> None:
        self.spec, self.slots = spec, len(plots)
        rng = np.random.default_rng(seed)
        self.episodes: list[list[Episode]] = []
        for slot, of_slot in enumerate(plots):
            told: list[Episode] = []
            at = 0
            while at <= length:
                steps, truncated, lost = of_slot[len(told) % len(of_slot)]
                terminated = np.array([k in lost for k in range(steps)])
                # a life lost with the time limit's last step still leaves no value beyond
                terminated[-1] |= not truncated
                frames = np.stack([self._frame(slot, at + k, rng) for k in range(steps + 1)])
                reward = rng.integers(-3, 4, steps).astype(np.float32)
                told.append(Episode(at, frames, reward, terminated))
                at += steps + 1
            self.episodes.append(told)

    def _frame(self, slot: int, k: int, rng: np.random.Generator) -> np.ndarray:
        label = [slot + 1, k % 250 + 1, k // 250 + 1]
        size = int(np.prod(self.spec.frame_shape))
        noise = rng.integers(1, 256, size - len(label)).tolist()
        return np.array(label + noise, self.spec.frame_dtype).reshape(self.spec.frame_shape)

    def place(self, slot: int, k: int) -> tuple[Episode, int]:
        """The episode of step `k` of a slot's stream, and which of its frames it sees (the last: a dummy)."""
        episode = next(e for e in self.episodes[slot] if k < e.first + len(e.frames))
        return episode, k - episode.first

    def real(self, slot: int, k: int) -> bool:
        """Whether step `k` is a transition, not a dummy or before the stream."""
        if k < 0:
            return False
        episode, i = self.place(slot, k)
        return i < len(episode.reward)

    def observation(self, episode: Episode, i: int) -> np.ndarray:
        """The stack that ends in frame `i`."""
        if not self.spec.pixels:
            return episode.frames[i]
        blank = np.zeros(self.spec.frame_shape, np.uint8)
        back = range(i - self.spec.stack + 1, i + 1)
        return np.stack([episode.frames[j] if j >= 0 else blank for j in back])

    def window(self, slot: int, k: int, horizon: int, gamma: float, clip: bool) -> Window:
        """The n-step transition that starts with step `k`."""
        episode, i = self.place(slot, k)
        total, discount, m = 0.0, 1.0, 0
        while m < horizon and i + m < len(episode.reward) and discount:
            reward = float(episode.reward[i + m])
            total += discount * (max(-1.0, min(1.0, reward)) if clip else reward)
            discount = 0.0 if episode.terminated[i + m] else discount * gamma
            m += 1
        return Window(self.observation(episode, i), total, discount, m, self.observation(episode, i + m))


class StoryEnv:
    """Plays a story whatever the actions, which it keeps: `actions[k]` are those of step k."""

    def __init__(self, story: Story) -> None:
        self.story, self.spec, self.num_slots = story, story.spec, story.slots
        self.at = 0
        self.actions: list[np.ndarray] = []

    def _frames(self) -> np.ndarray:
        places = [self.story.place(slot, self.at) for slot in range(self.num_slots)]
        return np.stack([episode.frames[i] for episode, i in places])

    def reset(self) -> np.ndarray:
        return self._frames()

    def step(self, action: np.ndarray) -> EnvStep:
        self.actions.append(np.array(action))
        reward = np.zeros(self.num_slots, np.float32)
        terminated, last = np.zeros((2, self.num_slots), bool)
        for slot in range(self.num_slots):
            episode, i = self.story.place(slot, self.at)
            if i < len(episode.reward):
                reward[slot], terminated[slot] = episode.reward[i], episode.terminated[i]
                last[slot] = i == len(episode.reward) - 1
        self.at += 1
        return EnvStep(self._frames(), reward, terminated, last)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Threads make networks this small twenty times slower where other work is going on."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


Tell = Callable[..., StoryEnv]


def _tell(
    plots: list[list[Plot]], length: int, *, pixels: bool = True, stack: int = 1, frame_skip: int = 1, seed: int = 0
) -> StoryEnv:
    spec = EnvSpec("story", (2, 3), "uint8", stack, 4, frame_skip)
    spec = spec if pixels else replace(spec, frame_shape=(5,), frame_dtype="float32", stack=1)
    return StoryEnv(Story(spec, plots, length, seed))


@pytest.fixture(scope="session")
def tell() -> Tell:
    """Makes an environment that plays the plots of each slot; see `Story`."""
    return _tell
