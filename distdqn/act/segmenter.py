"""From single steps of N slots to overlapping segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distdqn.types import EnvSpec


@dataclass
class Steps:
    """The `length` latest steps of N slots, oldest first; a step's index in the stream is the same for all.

    `frames` has S - 1 more entries in front, so that step k's stack is `frames[k : k + S]`.
    `q` float32 `[steps, N, A]` are the action values that the policy saw at each step; `real` bool `[steps, N]`
    is false for dummies and for the padding before the stream began. `memory` float32 `[steps, N, M]` is the
    recurrent state before each step, `bonus` float32 `[steps, N]` the intrinsic reward of each.
    """

    frames: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    last: np.ndarray
    real: np.ndarray
    age: np.ndarray
    q: np.ndarray
    memory: np.ndarray
    bonus: np.ndarray

    def fields(self) -> tuple[np.ndarray, ...]:
        """The arrays that have one entry for each step, the frames left out."""
        return tuple(value for name, value in vars(self).items() if name != "frames")


class Segmenter:
    """Holds the steps of one rollout and the L steps before it; each rollout of T steps completes T window
    starts of every slot, those that began L steps earlier.

    Loop:
        for _ in range(rollout_steps):
            stacks = segmenter.observe(frame)                 # what the policy sees
            segmenter.before(age, q, action, dummy, memory)   # what it did
            segmenter.after(reward, terminated, last)         # what the environment answered
        steps = segmenter.steps()                             # T + L steps, the first T may start windows
        segmenter.roll()                                      # keeps the last L for the next rollout

    Args:
        rollout_steps: T. window: L, at most T.
        initial: float32 `[N, M]`, the recurrent state at an episode's start, also of the padding before the
            stream: a window that begins there is of its slot's context, too. None: M = 0.
    """

    def __init__(
        self, spec: EnvSpec, slots: int, rollout_steps: int, window: int, initial: np.ndarray | None = None
    ) -> None:
        if not 1 <= window <= rollout_steps:
            raise ValueError(f"a window of {window} steps does not fit into a segment of {rollout_steps}")
        self.rollout_steps, self.window, self.stack = rollout_steps, window, spec.stack
        length = rollout_steps + window
        if initial is None:
            initial = np.zeros((slots, 0), np.float32)
        self._at = window
        self._steps = Steps(
            frames=np.zeros((spec.stack - 1 + length, slots, *spec.frame_shape), spec.frame_dtype),
            action=np.zeros((length, slots), np.int64),
            reward=np.zeros((length, slots), np.float32),
            terminated=np.zeros((length, slots), bool),
            last=np.zeros((length, slots), bool),
            real=np.zeros((length, slots), bool),
            age=np.zeros((length, slots), np.int32),
            q=np.zeros((length, slots, spec.num_actions), np.float32),
            memory=np.tile(initial, (length, 1, 1)),
            bonus=np.zeros((length, slots), np.float32),
        )

    def observe(self, frame: np.ndarray) -> np.ndarray:
        """Takes the newest frames `[N, ...]` of the step that begins and gives the stacks, `[S, N, ...]` for
        pixels (a view, older episodes' planes included), `[N, D]` for vectors."""
        end = self._at + self.stack
        self._steps.frames[end - 1] = frame
        return self._steps.frames[self._at : end] if frame.ndim == 3 else self._steps.frames[self._at]

    def ahead(self, frame: np.ndarray) -> np.ndarray:
        """The stacks that the next `observe(frame)` will give, without taking anything in."""
        if frame.ndim != 3:
            return frame
        recent = self._steps.frames[self._at + 1 : self._at + self.stack]
        return np.concatenate([recent, frame[None]])

    def before(
        self, age: np.ndarray, q: np.ndarray, action: np.ndarray, dummy: np.ndarray, memory: np.ndarray | None = None
    ) -> None:
        """Records what the policy did at this step, and the state that it was in before it, each `[N, ...]`."""
        s, at = self._steps, self._at
        s.age[at], s.q[at], s.action[at], s.real[at] = age, q, action, ~dummy
        if memory is not None:
            s.memory[at] = memory

    def after(
        self, reward: np.ndarray, terminated: np.ndarray, last: np.ndarray, bonus: np.ndarray | float = 0.0
    ) -> None:
        """Records what the environment answered and moves on to the next step."""
        s, at = self._steps, self._at
        s.reward[at], s.terminated[at], s.last[at], s.bonus[at] = reward, terminated, last, bonus
        self._at += 1

    @property
    def full(self) -> bool:
        """True once the rollout is complete."""
        return self._at == self.rollout_steps + self.window

    def steps(self) -> Steps:
        """The complete T + L steps (views, valid until `roll`)."""
        if not self.full:
            raise RuntimeError(f"a rollout has {self.rollout_steps} steps, {self._at - self.window} are there")
        return self._steps

    def roll(self) -> None:
        """Moves the last L steps to the front, for the next rollout."""
        keep = self.window
        frames = self._steps.frames
        overlap = keep + self.stack - 1
        frames[:overlap] = frames[-overlap:].copy() if overlap else frames[:0]
        for array in self._steps.fields():
            array[:keep] = array[-keep:]
        self._at = keep
