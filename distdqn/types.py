"""The words that every component speaks: frozen dataclasses of NumPy arrays and plain values.

Symbols in the shapes below:

    K  segments in one message        B  minibatch        N  environment slots
    T  window starts in a segment     L  steps of a window (n for n-step DQN)
    S  stacked frames                 A  actions          M  size of the recurrent state (0 without one)
    U  loss positions in a window     G  window starts that may be drawn, every (T / G)-th of the T

One *step* k of a slot is: the newest frame x_k, the action a_k taken on the observation that ends in x_k,
and what followed: the reward r_{k+1}, whether the state after it is terminal, and whether the episode ended.
`STEP_FIELDS` says what is kept of each; an agent may add to it.

A *dummy* is no transition: the step after an episode's end, whose action the environment ignores and answers with
reward 0 and the next episode's first frame. In records its age is -1, as that of the padding before a stream began.
"""

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

State = dict[str, Any]
"""What `state()` gives and `restore()` takes: nested dicts, lists, numbers, strings and NumPy arrays, no pickles."""


@dataclass(frozen=True)
class EnvSpec:
    """What an environment looks like to everything else.

    `frame_shape` is that of one unstacked frame: `(H, W)` or `(H, W, C)` for images, uint8 (0 to 255) or bool, and
    `(D,)` float32 for vectors. The observation is `stack` frames, oldest first, each frame's channels in
    order: `(S * C, H, W)`; `(D,)` for vectors (S = 1).
    """

    name: str
    frame_shape: tuple[int, ...]
    frame_dtype: str
    stack: int
    num_actions: int
    frame_skip: int = 1
    action_names: tuple[str, ...] = ()

    @property
    def pixels(self) -> bool:
        """True where a frame is an image."""
        return len(self.frame_shape) > 1

    @property
    def channels(self) -> int:
        """C of an image, 1 where its frames are `(H, W)`."""
        return math.prod(self.frame_shape[2:])

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation, `(S * C, H, W)` or `(D,)`."""
        return (self.stack * self.channels, *self.frame_shape[:2]) if self.pixels else self.frame_shape

    @property
    def frame_bytes(self) -> int:
        """Size of one frame."""
        return math.prod(self.frame_shape) * np.dtype(self.frame_dtype).itemsize


@dataclass(frozen=True)
class EnvStep:
    """What one step of N slots gives. `frame` is the newest `[N, *frame_shape]`, `reward` float32 `[N]` unclipped,
    `terminated` bool `[N]` (no value lies beyond: true end, or a lost life where the protocol says so), `last` bool
    `[N]` (the episode ends here, terminated or truncated: the slot's next step is a dummy)."""

    frame: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    last: np.ndarray


@dataclass(frozen=True)
class StepField:
    """One thing that is kept of every step: its name, dtype, meaning, and its shape beside `[K, T+L]`."""

    name: str
    dtype: str
    meaning: str = ""
    shape: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size of one step's."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


STEP_FIELDS = (
    StepField("action", "int64", "what was done"),
    StepField("reward", "float32", "of the action, unclipped"),
    StepField("terminated", "bool", "no bootstrap past this step"),
    StepField("last", "bool", "the episode ends with this step: stack and memory restart after the dummy"),
    StepField("age", "int32", "steps since the episode began; -1 for a dummy"),
)
"""Of every agent. Whoever acts may add fields of its own: replay and learner carry what segments bring."""

BONUS = StepField("bonus", "float32", "the intrinsic reward of the step, before its weight")

A = TypeVar("A", bound=Sized)


class StepRecord(Generic[A]):
    """A record whose `steps` hold what was kept of each of its steps, by name; `x.reward` is `x.steps["reward"]`."""

    steps: dict[str, A]

    def __getattr__(self, name: str) -> A:
        if name not in vars(self).get("steps", ()):  # there are none yet while one is unpickled
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return self.steps[name]

    def __len__(self) -> int:
        return len(self.action)

    @property
    def dummy(self) -> A:
        """Which steps are no transitions, bool."""
        return self.age < 0  # type: ignore[operator, return-value]


@dataclass(frozen=True)
class Segment(StepRecord[np.ndarray]):
    """K segments of T + L consecutive steps each; the first T may be window starts.

    A window never needs a second segment: consecutive segments of a slot overlap by L steps.

    Fields, each with the leading dimension K:
        frames: `[K, S-1+T+L, *frame_shape]`, in the frame's own dtype. Step k's observation is `frames[k : k+S]`,
            planes older than the episode (see `age`) read as zero.
        steps: `[K, T+L, ...]` each, those of `STEP_FIELDS` and what the agent adds.
        valid: bool `[K, T]`, whether a window may start here: where one of its loss positions is a transition, of
            sequences only at every stride-th step.
        memory: float32 `[K, G, M]`, the recurrent state before each of the steps at which windows may start.
        priority: float32 `[K, T]`, initial absolute TD errors, before any exponent.
        origin: int64 `[K, 5]`, provenance: run id, actor id, slot, first step, weights version.
    """

    frames: np.ndarray
    steps: dict[str, np.ndarray]
    valid: np.ndarray
    memory: np.ndarray
    priority: np.ndarray
    origin: np.ndarray


@dataclass(frozen=True)
class Batch(StepRecord[np.ndarray]):
    """B windows of L steps and the observation after them.

    Fields:
        frames: `[B, S-1+L+1, *frame_shape]`, in the frame's own dtype.
        steps: `[B, L, ...]` each, as in `Segment`.
        memory: float32 `[B, M]`, the recurrent state before the window's first step.
        importance: float32 `[B]`, P(i)^-beta, where P is the probability over all shards; the learner
            divides by the largest of the whole minibatch (Schaul et al. 2016, section 3.4).
        key: int64 `[B]`, shard epoch, insertion number and offset in one integer (see `replay.storage`).
        origin: int64 `[B, 6]`, the segment's provenance and the offset in it.
        sizes: how many rows belong to each of the `len(sizes)` minibatches, in order; they add up to B.
    """

    frames: np.ndarray
    steps: dict[str, np.ndarray]
    memory: np.ndarray
    importance: np.ndarray
    key: np.ndarray
    origin: np.ndarray
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Priorities:
    """New absolute TD errors for sampled windows: `key` int64 `[B]`, `priority` float32 `[B]`."""

    key: np.ndarray
    priority: np.ndarray


@dataclass(frozen=True)
class Weights:
    """The Q-network's parameters and buffers by name, and the number of updates that made them."""

    version: int
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class RolloutStats:
    """What one `Actor.rollout` did. `transitions` counts valid window starts (a sequence's as the steps to the
    next one's), `steps` agent steps (dummies excluded), `frames` emulator frames. `returns` and `lengths` (emulator
    frames) are those of whole games that ended, whatever ends a training episode; `slots` says which slot played
    each. `bonus_mean` is the mean intrinsic reward of a step, before its weight; 0 without one."""

    actor: int
    steps: int
    frames: int
    transitions: int
    weights_version: int
    seconds: float
    returns: tuple[float, ...] = ()
    lengths: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()
    epsilons: tuple[float, ...] = ()
    q_mean: float = 0.0
    bonus_mean: float = 0.0


@dataclass(frozen=True)
class ShardStats:
    """A shard's small figures after a call. `mass` is the sum of its sampling weights, `transitions` what it holds (a
    sequence counts as the steps to the next one's start), `nbytes` what that takes. Since it started: `added`,
    `evicted`, `sampled`, priorities `applied` and `stale`, bytes of segments `in` and of batches `out`. `rss` is its
    process's memory, `sample_age` the mean of the transitions added since the last sampled ones were. `journal_bytes`
    are those on disk, and `trouble` says what is wrong with them."""

    transitions: int
    mass: float
    added: int
    evicted: int
    sampled: int
    nbytes: int
    rss: int = 0
    sample_age: float = 0.0
    applied: int = 0
    stale: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    journal_bytes: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class UpdateStats:
    """What one `Learner.update` did. `metrics` are means over its gradient steps by name, recorded as `learner/NAME`:
    loss, grad_norm, q_mean, td_abs, step_size, and what the agent's losses have of their own. `skipped` counts updates
    whose loss was not finite; `bad_batch` holds the provenance of the last of those, `aborted`: too many in a row."""

    version: int
    updates: int
    samples: int
    metrics: dict[str, float]
    weights_lag: float
    seconds: float
    skipped: int = 0
    aborted: bool = False
    bad_batch: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Whole-game unclipped returns and lengths (emulator frames) of the evaluation's episodes, in the same order,
    made with weights `version` in `seconds`."""

    version: int
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Recording:
    """One game to look at: `frames`, a picture uint8 `[H, W, 3]` of each step, the policy's Q-values before each step
    float32 `[steps, A]`, the actions int64 `[steps]`, the rewards float32 `[steps]` and the game's unclipped return."""

    frames: Sequence[np.ndarray]
    q: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    game_return: float


def map_arrays(function: Callable[..., Any], *records: Any) -> dict[str, Any]:
    """`function` of each array of records of one class, as keyword arguments of that class."""
    mapped: dict[str, Any] = {}
    for name, value in vars(records[0]).items():
        if isinstance(value, np.ndarray):
            mapped[name] = function(*(getattr(r, name) for r in records))
        elif isinstance(value, dict):
            mapped[name] = {key: function(*(getattr(r, name)[key] for r in records)) for key in value}
    return mapped


def take(record: Any, rows: Any) -> dict[str, Any]:
    """The arrays of a record, each indexed by `rows`, as keyword arguments of its class."""
    return map_arrays(lambda a: a[rows], record)


def named_arrays(record: Any) -> dict[str, np.ndarray]:
    """All arrays of a record by name."""
    return {name: value for name, value in vars(record).items() if isinstance(value, np.ndarray)} | record.steps


def nbytes(record: Any) -> int:
    """Bytes of a record's arrays."""
    return sum(array.nbytes for array in named_arrays(record).values())
