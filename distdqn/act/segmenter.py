"""From single steps of N slots to overlapping segments."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from distdqn.act.exploration import scheme
from distdqn.act.history import History
from distdqn.config import AgentConfig
from distdqn.types import BONUS, STEP_FIELDS, Batch, EnvSpec, EnvStep, Segment, StepField, StepRecord


@dataclass
class Rollout(StepRecord[np.ndarray]):
    """The T + L latest steps of N slots, oldest first; a step's index in the stream is the same for all.

    Fields:
        frames: `[S-1+T+L, N, *frame_shape]`, so that step k's stack is `frames[k : k + S]`.
        steps: `[T+L, N, ...]` each, as in `Segment`.
        q: float32 `[T+L, N, A]`, the action values that the policy saw at each step.
        memory: float32 `[T+L, N, M]`, the recurrent state before each step.
    """

    frames: np.ndarray
    steps: dict[str, np.ndarray]
    q: np.ndarray
    memory: np.ndarray


_TAKEN = {"dummy", *(f.name for record in (Segment, Batch, Rollout) for f in fields(record))}


def agent_fields(agent: AgentConfig) -> tuple[StepField, ...]:
    """What `agent` keeps of every step beside `STEP_FIELDS`."""
    bonus = (BONUS,) if agent.bonus.kind != "none" else ()
    return bonus + scheme(agent.exploration).fields


class Segmenter:
    """Holds the steps of one rollout and the L steps before it; each rollout of T steps completes T window starts of
    every slot, those that began L steps earlier. `Actor.rollout` is the loop that fills it.

    Args:
        frame: the slots' first frames, `[N, *frame_shape]`.
        rollout_steps: T. window: L, at most T.
        initial: float32 `[N, M]`, the recurrent state at an episode's start, also of the padding before the
            stream: a window that begins there is of its slot's context, too. None: M = 0.
        extra: what is kept of every step beside `STEP_FIELDS`.
    """

    def __init__(
        self,
        spec: EnvSpec,
        frame: np.ndarray,
        rollout_steps: int,
        window: int,
        initial: np.ndarray | None = None,
        extra: Sequence[StepField] = (),
    ) -> None:
        if not 1 <= window <= rollout_steps:
            raise ValueError(f"a window of {window} steps does not fit into a segment of {rollout_steps}")
        kept = (*STEP_FIELDS, *extra)
        names = [f.name for f in kept]
        if len(set(names)) < len(names) or not _TAKEN.isdisjoint(names):
            raise ValueError(f"step fields {', '.join(names)}: each needs a name of its own, none of {sorted(_TAKEN)}")
        self.rollout_steps, self.window = rollout_steps, window
        length, slots = rollout_steps + window, len(frame)
        if initial is None:
            initial = np.zeros((slots, 0), np.float32)
        self.history = History(spec, frame, room=length + 1, at=window)
        self._rollout = Rollout(
            frames=self.history.frames[:-1],
            steps={f.name: np.zeros((length, slots, *f.shape), f.dtype) for f in kept},
            q=np.zeros((length, slots, spec.num_actions), np.float32),
            memory=np.tile(initial, (length, 1, 1)),
        )
        self._rollout.age[:] = -1
        self._step: dict[str, np.ndarray] = {}

    def before(self, q: np.ndarray, action: np.ndarray, memory: np.ndarray | None = None, **extra: np.ndarray) -> None:
        """Records what the policy did at this step, and the state that it was in before it, each `[N, ...]`."""
        rollout, history = self._rollout, self.history
        rollout.q[history.at] = q
        if memory is not None:
            rollout.memory[history.at] = memory
        self._step = {"action": action, "age": np.where(history.dummy, -1, history.age), **extra}

    def after(self, step: EnvStep, **extra: np.ndarray) -> None:
        """Records what the environment answered, once `history` has moved on to the next step. ValueError unless this
        and `before` together were given each of the `extra` fields."""
        given = {**self._step, **extra, "reward": step.reward, "terminated": step.terminated, "last": step.last}
        if given.keys() != self._rollout.steps.keys():
            raise ValueError(f"given of the step: {sorted(given)}, to be kept: {sorted(self._rollout.steps)}")
        for name, array in self._rollout.steps.items():
            array[self.history.at - 1] = given[name]

    @property
    def full(self) -> bool:
        """True once the rollout is complete."""
        return self.history.at == self.rollout_steps + self.window

    def rollout(self) -> Rollout:
        """The complete T + L steps (views, valid until `roll`)."""
        if not self.full:
            raise RuntimeError(f"a rollout has {self.rollout_steps} steps, {self.history.at - self.window} are there")
        return self._rollout

    def roll(self) -> None:
        """Moves the last L steps to the front, for the next rollout."""
        keep = self.window
        self.history.drop(self.rollout_steps)
        for array in (self._rollout.q, self._rollout.memory, *self._rollout.steps.values()):
            array[:keep] = array[-keep:]
