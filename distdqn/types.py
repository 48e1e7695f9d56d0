"""The words that every component speaks: frozen dataclasses of NumPy arrays and plain values.

Symbols in the shapes below:

    K  segments in one message        B  minibatch        N  environment slots
    T  window starts in a segment     L  steps of a window (n for n-step DQN)
    S  stacked frames                 A  actions          M  size of the recurrent state (0 without one)
    U  loss positions in a window     G  window starts that may be drawn, every (T / G)-th of the T

One *step* k of a slot is: the newest frame x_k, the action a_k taken on the observation that ends in x_k,
and what followed: the reward r_{k+1}, whether the state after it is terminal, and whether the episode ended.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

State = dict[str, Any]
"""What `state()` gives and `restore()` takes: nested dicts, lists, numbers, strings and NumPy arrays, no pickles."""


@dataclass(frozen=True)
class EnvSpec:
    """What an environment looks like to everything else.

    `frame_shape` is that of one unstacked frame: `(H, W)` uint8 for pixels, `(D,)` float32 for vectors.
    The observation is `stack` frames, oldest first: `(S, H, W)`, or `(D,)` for vectors (then S = 1).
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
        return len(self.frame_shape) == 2

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation, `(S, H, W)` or `(D,)`."""
        return (self.stack, *self.frame_shape) if self.pixels else self.frame_shape


@dataclass(frozen=True)
class EnvStep:
    """What one step of N slots gives.

    `frame` is the newest frame `[N, H, W]` uint8 or `[N, D]` float32, `reward` float32 `[N]` unclipped,
    `terminated` bool `[N]` (no value lies beyond: true end, or a lost life where the protocol says so),
    `last` bool `[N]` (the episode ends here, terminated or truncated). After `last`, the slot's next step
    ignores its action and gives reward 0 and the first frame of the next episode: a dummy, not a transition.
    """

    frame: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    last: np.ndarray


@dataclass(frozen=True)
class Segment:
    """K segments of T + L consecutive steps each; the first T may be window starts.

    A window never needs a second segment: consecutive segments of a slot overlap by L steps.

    Fields, each with the leading dimension K:
        frames: uint8 `[K, S-1+T+L, H, W]`, or float32 `[K, T+L, D]`. Step k's observation is
            `frames[k : k+S]`, planes older than the episode (see `age`) read as zero.
        action: int64 `[K, T+L]`.
        reward: float32 `[K, T+L]`, unclipped, that of the step's action.
        terminated: bool `[K, T+L]`, no bootstrap past this step.
        last: bool `[K, T+L]`, the episode ends with this step: stack and memory restart after the dummy.
        valid: bool `[K, T]`, whether a window may start here: not at the autoreset's dummy step nor before the
            stream began, and for sequences only at every stride-th step.
        age: int32 `[K, T+L]`, steps since the episode began; -1 for a dummy.
        bonus: float32 `[K, T+L]`, the intrinsic reward of the step, or `[K, 0]` without one.
        memory: float32 `[K, G, M]`, the recurrent state before each of the steps at which windows may start.
        priority: float32 `[K, T]`, initial absolute TD errors, before any exponent.
        origin: int64 `[K, 5]`, provenance: run id, actor id, slot, first step, weights version.
    """

    frames: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    last: np.ndarray
    valid: np.ndarray
    age: np.ndarray
    bonus: np.ndarray
    memory: np.ndarray
    priority: np.ndarray
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True)
class Batch:
    """B windows of L steps and the observation after them.

    Fields:
        frames: uint8 `[B, S-1+L+1, H, W]` or float32 `[B, L+1, D]`.
        action int64, reward float32, terminated bool, last bool, age int32: `[B, L]`, as in `Segment`.
        bonus: float32 `[B, L]`, or `[B, 0]` without one.
        memory: float32 `[B, M]`, the recurrent state before the window's first step.
        importance: float32 `[B]`, P(i)^-beta, where P is the probability over all shards; the learner
            divides by the largest of the whole minibatch (Schaul et al. 2016, section 3.4).
        key: int64 `[B]`, shard epoch, insertion number and offset in one integer (see `replay.storage`).
        origin: int64 `[B, 6]`, the segment's provenance and the offset in it.
        sizes: how many rows belong to each of the `len(sizes)` minibatches, in order; they add up to B.
    """

    frames: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    last: np.ndarray
    age: np.ndarray
    bonus: np.ndarray
    memory: np.ndarray
    importance: np.ndarray
    key: np.ndarray
    origin: np.ndarray
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.action)


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
    next one's), `steps` agent steps (dummies excluded), `frames` emulator frames.
    `returns` and `lengths` (emulator frames) are those of whole
    games that ended, whatever ends a training episode; `slots` says which slot played each.
    `bonus_mean` is the mean intrinsic reward of a step, before its weight; 0 without one."""

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
    """A shard's small figures after a call. `mass` is the sum of its sampling weights, `transitions` what it
    holds (a sequence counts as the steps to the next one's start),
    `nbytes` what that takes; `added`, `evicted`, `sampled` and the priorities `applied` and `stale` are
    counted since it started; `rss` is its process's memory. `sample_age` is the mean number of transitions that
    had been added since the last sampled ones were."""

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


@dataclass(frozen=True)
class UpdateStats:
    """What one `Learner.update` did. `metrics` are means over its gradient steps by name, recorded as `learner/NAME`:
    loss, grad_norm, q_mean, td_abs, step_size, and what the agent's losses have of their own. `skipped` counts updates
    whose loss was not finite; `bad_batch` holds the provenance of the last of those, `aborted` is true after too many
    in a row."""

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


class Film(Sequence[np.ndarray]):
    """Pictures uint8 `[H, W, 3]`, all of one size, each compressed on its own: a game's are about a hundredth of
    their size then, which is what travels and waits to be drawn."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self._packed: list[bytes] = []

    def append(self, picture: np.ndarray) -> None:
        """Adds one more at the end."""
        self.shape = picture.shape
        self._packed.append(zlib.compress(picture.tobytes(), 1))

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, i: Any) -> Any:
        """Picture `i`, read-only; one at a time."""
        return np.frombuffer(zlib.decompress(self._packed[i]), np.uint8).reshape(self.shape)


@dataclass(frozen=True)
class Recording:
    """One game to look at: `frames`, a picture uint8 `[H, W, 3]` of each step, the policy's Q-values before each step
    float32 `[steps, A]`, the actions int64 `[steps]`, the rewards float32 `[steps]` and the game's unclipped return."""

    frames: Sequence[np.ndarray]
    q: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    game_return: float


def take(record: Any, rows: Any) -> dict[str, np.ndarray]:
    """The array fields of a dataclass, each indexed by `rows`."""
    return {f.name: v[rows] for f in fields(record) if isinstance(v := getattr(record, f.name), np.ndarray)}
