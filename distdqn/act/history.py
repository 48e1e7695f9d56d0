"""What every loop that plays keeps of N slots: their newest frames, and how old their episodes are."""

import numpy as np

from distdqn.types import EnvSpec


class History:
    """Stacks and ages.

    Loop:
        history = History(env.spec, env.reset())
        while playing:
            q = policy.q_values(history.stacks, history.age)
            step = env.step(action)              # no transitions where `history.dummy`
            history.push(step.frame, step.last)

    Args:
        frame: the first frames, `[N, *frame_shape]`.
        room: steps whose frames are kept; the oldest ones make room for new ones.
        at: place of the first of them; those before it are padding.
    """

    def __init__(self, spec: EnvSpec, frame: np.ndarray, room: int = 1, at: int = 0) -> None:
        self.pixels, self.stack, self.at = spec.pixels, spec.stack, at
        self.frames = np.zeros((spec.stack - 1 + room, *frame.shape), frame.dtype)
        """`[S-1+room, N, ...]`; the stack of the present step is `frames[at : at + S]`."""
        self.frames[at + self.stack - 1] = frame
        self.age = np.zeros(len(frame), np.int32)
        """int32 `[N]`, steps since the episode began. It counts on at a dummy, which sees the episode's last frame."""
        self.dummy = np.zeros(len(frame), bool)
        """bool `[N]`, whether the present step is a dummy."""

    @property
    def stacks(self) -> np.ndarray:
        """What the policy sees, a view: `[S, N, *frame_shape]`, older episodes' planes included, or `[N, D]`."""
        end = self.at + self.stack
        return self.frames[self.at : end] if self.pixels else self.frames[end - 1]

    def push(self, frame: np.ndarray, last: np.ndarray) -> None:
        """Takes what the environment answered: the next step's frames, and where the episode ended before them."""
        if self.at + self.stack == len(self.frames):
            self.drop(1)
        self.at += 1
        self.frames[self.at + self.stack - 1] = frame
        self.age = np.where(self.dummy, 0, self.age + 1).astype(np.int32)
        self.dummy = last.copy()

    def drop(self, steps: int) -> None:
        """Forgets the frames of the oldest `steps` and moves the others to the front."""
        self.frames[:-steps] = self.frames[steps:]
        self.at -= steps
