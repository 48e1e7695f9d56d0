"""Components that take their time and do nothing: they answer with the true types, whose arrays are empty."""

import random
from dataclasses import dataclass, replace

import numpy as np

from distdqn.config import RunConfig
from distdqn.packed import Packed
from distdqn.runtime.simulated import Pretended, Work
from distdqn.types import Batch, Priorities, RolloutStats, ShardStats, UpdateStats, Weights

UNEVEN = 0.1
"""A rollout takes up to this share more or less than the mean: emulators differ, and actors do not go in step."""
GAME_STEPS = 2000
"""Agent steps of a game, of which an actor tells."""

_NOTHING = np.zeros(0, np.float32)
_PACKED = Packed(np.zeros(0, np.uint8))
_PRIORITIES = Priorities(_NOTHING, _NOTHING)
_BATCH = Batch(_NOTHING, {"action": _NOTHING}, _NOTHING, _NOTHING, _NOTHING, _NOTHING, ())


@dataclass(frozen=True)
class Costs:
    """Seconds of an agent `step`, a transition's `add`, a window's `sample`, its `priority`, an `update` on one
    minibatch, and of `carry`, a byte put into the object store; bytes of a `transition`, a `window`, the `weights` on
    their way."""

    step: float
    add: float
    sample: float
    priority: float
    update: float
    carry: float
    transition: float
    window: float
    weights: float

    def for_nothing(self) -> "Costs":
        """Shards, learner and what travels cost nothing: what is left is the actors, and the coordinator."""
        free = dict.fromkeys(("add", "sample", "priority", "update", "carry", "transition", "window", "weights"), 0.0)
        return replace(self, **free)


class PretendedActor:
    """Plays `rollout_steps` of each of its slots."""

    def __init__(self, config: RunConfig, costs: Costs, index: int, frame_skip: int) -> None:
        self.config, self.costs, self.index, self.skip = config, costs, index, frame_skip
        self.steps = config.actors.rollout_steps * config.actors.envs_per_actor
        self._random = random.Random(index)
        self._played = self._random.randrange(GAME_STEPS)

    def do(self, method: str, *args: object) -> Work:
        (weights, _) = args
        assert isinstance(weights, Weights)
        size = self.steps * self.costs.transition
        seconds = self.steps * self.costs.step * self._random.uniform(1 - UNEVEN, 1 + UNEVEN) + size * self.costs.carry
        games, self._played = divmod(self._played + self.steps, GAME_STEPS)
        ended = (1.0,) * games, (GAME_STEPS * self.skip,) * games, tuple(range(games)), (0.1,) * games
        figures = (self.index, self.steps, self.steps * self.skip, self.steps, weights.version, seconds)
        return Work(seconds, (_PACKED, RolloutStats(*figures, *ended)), (size,), self.config.actors.threads)


class PretendedShard:
    """Holds as many transitions as it has room for, each of the same weight."""

    def __init__(self, config: RunConfig, costs: Costs) -> None:
        self.costs, self.segment = costs, config.actors.rollout_steps * config.actors.envs_per_actor
        self.capacity = config.replay.capacity // config.replay.shards
        self.added = self.sampled = self.applied = 0

    def do(self, method: str, *args: object) -> Work:
        if method == "add":
            self.added += self.segment
            return Work(self.segment * self.costs.add, (self._stats(),))
        if method == "sample":
            sizes = args[0]
            assert isinstance(sizes, tuple)
            windows = sum(sizes)
            self.sampled += windows
            size = windows * self.costs.window
            return Work(
                windows * self.costs.sample + size * self.costs.carry,
                (replace(_BATCH, sizes=sizes), self._stats()),
                (size,),
            )
        if method == "update_priorities":
            self.applied += 1
            return Work(self.costs.priority * self.sampled / self.applied, (self._stats(),))
        return Work(0.0, (self._stats(),))

    def _stats(self) -> ShardStats:
        held = min(self.added, self.capacity)
        return ShardStats(held, float(held), self.added, self.added - held, self.sampled, held, applied=self.applied)


class PretendedLearner:
    """Counts updates."""

    def __init__(self, config: RunConfig, costs: Costs, cores: int) -> None:
        self.costs, self.cores, self.updates = costs, cores, 0

    def do(self, method: str, *args: object) -> Work:
        if method == "weights":
            return Work(self.costs.weights * self.costs.carry, (Weights(self.updates, {}),), (self.costs.weights,))
        if method == "state":
            return Work(0.0, ({"updates": self.updates, "online": {}},))
        parts = [a for a in args if isinstance(a, Batch)]
        updates, windows = len(parts[0].sizes), sum(sum(part.sizes) for part in parts)
        seconds = updates * self.costs.update
        self.updates += updates
        metrics = dict.fromkeys(("loss", "grad_norm", "q_mean", "td_abs", "step_size"), 0.0)
        stats = UpdateStats(self.updates, updates, windows, metrics, 0.0, seconds)
        return Work(seconds, (*[_PRIORITIES] * len(parts), stats), cores=self.cores)


class PretendedEvaluator:
    """Is there, and is asked for nothing."""

    def do(self, method: str, *args: object) -> Work:
        return Work(0.0, (None,))


def pretend(name: str, config: RunConfig, costs: Costs, frame_skip: int, gpu: bool) -> Pretended:
    """Who stands for the component `name`."""
    kind, _, index = name.partition("-")
    if kind == "actor":
        return PretendedActor(config, costs, int(index), frame_skip)
    if kind == "shard":
        return PretendedShard(config, costs)
    if kind == "learner":
        return PretendedLearner(config, costs, 0 if gpu else config.learner.threads)
    return PretendedEvaluator()
