"""Each component on its own, in this process: emulators, inference, acting, adding, sampling, learning."""

import gc
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from time import monotonic

import numpy as np
import psutil

from distdqn.act.actor import Actor
from distdqn.act.policy import Policy
from distdqn.bench.limits import FREE
from distdqn.bench.measure import Cost, Work, fraction, interleave, median
from distdqn.config import RunConfig
from distdqn.envs.registry import make_env
from distdqn.learn.learner import Learner
from distdqn.machine import inspect
from distdqn.packed import Packed
from distdqn.replay.journal import JournalPlace
from distdqn.replay.journaled import JournaledShard
from distdqn.replay.shard import ReplayShard
from distdqn.runtime.preflight import bytes_per_transition
from distdqn.types import Batch, EnvSpec, Priorities, Segment, Weights, nbytes

SHARD_BYTES = 2**30
"""A shard at hand is at most this large: further memory would change nothing but the time to fill it."""


@dataclass(frozen=True)
class Stages:
    """What the stages cost, medians over the rounds, in units of an agent step (`emulators`, `inference`, `act`),
    a transition (`add`) and a window (`sample`, `priority`, `learn`).

    `acting_wall` and `acting_cpu` are the fractions of emulators plus inference that acting reaches, by the clock
    and by CPU time; `in_turn_cpu` is the fraction that the two reach when one step of each follows the other, which
    is what their caches cost each other before the actor does anything of its own.
    `nbytes` is what the full shard of `transitions` says it takes, `rss_growth` by how much this process grew while
    it was filled. `batch` is what one call of the learner is fed; `transition_bytes` are those of a
    transition on its way to a shard, `journal_bytes` those on disk, 0 without a journal.
    """

    emulators: Cost
    inference: Cost
    act: Cost
    add: Cost
    sample: Cost
    priority: Cost
    learn: Cost
    acting_wall: float
    acting_cpu: float
    in_turn_cpu: float
    transitions: int
    nbytes: int
    rss_growth: int
    device: str
    batch: Batch
    transition_bytes: float
    journal_bytes: float

    @property
    def sample_bytes(self) -> float:
        """Bytes of a sampled window on its way."""
        return nbytes(self.batch) / len(self.batch)


def measure_stages(config: RunConfig, spec: EnvSpec, seconds: float) -> Stages:
    """Measures every component of `config`, `seconds` each, in turns."""
    at_hand = _Components(config, spec)
    threads, full = config.actors.threads, at_hand.shard.stats()
    works = {
        "emulators": Work(at_hand.emulate, threads),
        "inference": Work(at_hand.infer, threads),
        "in_turn": Work(lambda: at_hand.infer() and at_hand.emulate(), threads),
        "act": Work(at_hand.act, threads),
        "add": Work(at_hand.add),
        "sample": Work(lambda: len(at_hand.draw())),
        "learn": Work(at_hand.learn, config.learner.threads),
    }
    if config.replay.kind == "prioritized":  # else no priorities are sent
        works["priority"] = Work(at_hand.update_priorities)
    costs = interleave(works, seconds)
    parts = (costs["emulators"], costs["inference"])
    medians = {name: median(c) for name, c in costs.items() if name != "in_turn"}
    return Stages(
        **{"priority": FREE, **medians},
        acting_wall=fraction(parts, costs["act"], "wall"),
        acting_cpu=fraction(parts, costs["act"], "cpu"),
        in_turn_cpu=fraction(parts, costs["in_turn"], "cpu"),
        transitions=full.transitions,
        nbytes=full.nbytes,
        rss_growth=at_hand.rss_growth,
        device=at_hand.learner.device.type,
        batch=at_hand.batch,
        transition_bytes=sum(s.nbytes if isinstance(s, Packed) else nbytes(s) for s, _ in at_hand.segments)
        / max(1, sum(n for _, n in at_hand.segments)),
        journal_bytes=full.journal_bytes / full.added,
    )


class _Components:
    """The components of a run; each method does a piece of one's work, and most give the units done."""

    def __init__(self, config: RunConfig, spec: EnvSpec) -> None:
        actors, slots = config.actors, config.actors.envs_per_actor
        self.config, self.rng = config, np.random.default_rng(config.seed)
        self.actor = Actor(config.env, config.agent, actors, 0, config.seed)
        self.versions, self.numbers, self.arrays = count(), count(1), self.actor.policy.network.arrays()
        self.rollout = self.actor.packed_rollout if config.replay.pack else self.actor.rollout
        self.play()  # its first window starts lie before the streams began
        self.segments = [self.play() for _ in range(4)]
        self.source = cycle(self.segments)
        self.shard, self.rss_growth = _full_shard(config, spec, [s for s, _ in self.segments])
        self.batch = self.draw()
        self.learner = Learner(config.agent, config.learner, spec, config.seed)
        self.published = 0, monotonic()
        self.env = make_env(config.env, slots, actors.threads, config.seed)
        self.env.reset()
        self.last = np.zeros(slots, bool)
        self.policy = Policy(config.agent, spec, slots)
        shape = (spec.stack, slots, *spec.frame_shape) if spec.pixels else (slots, *spec.frame_shape)
        self.observations = cycle([(self.rng.random(shape) * 255).astype(spec.frame_dtype) for _ in range(8)])
        self.age = np.full(slots, 1000, np.int32)

    def emulate(self) -> int:
        slots = self.env.num_slots
        played = slots - int(self.last.sum())  # after `last` comes a dummy, which is not a step
        self.last = self.env.step(self.rng.integers(self.env.spec.num_actions, size=slots)).last
        return played

    def infer(self) -> int:
        self.policy.q_values(next(self.observations), self.age)
        return len(self.age)

    def play(self) -> tuple[Segment | Packed, int]:
        """A rollout with weights that the actor has not seen, as each is in a run: segments and their transitions."""
        segment, self.stats = self.rollout(Weights(next(self.versions), self.arrays), 0)
        return segment, self.stats.transitions

    def act(self) -> int:
        """Agent steps of a rollout."""
        self.play()
        return self.stats.steps

    def add(self) -> int:
        segment, transitions = next(self.source)
        self.shard.add(segment, next(self.numbers))
        return transitions

    def draw(self) -> Batch:
        """What one call of the learner is fed."""
        sizes = (self.config.learner.batch_size,) * self.config.learner.updates_per_call
        self.batch = self.shard.sample(sizes, self.config.replay.beta)[0]
        return self.batch

    def update_priorities(self) -> int:
        key = self.batch.key
        self.shard.update_priorities(Priorities(key, self.rng.random(len(key), np.float32)))
        return len(key)

    def learn(self) -> int:
        """With the weights that are published of it."""
        self.learner.update(0.0, self.batch)
        config, (updates, at) = self.config.learner, self.published
        if self.learner.updates >= updates + config.publish_period and monotonic() >= at + config.publish_seconds:
            self.learner.weights()
            self.published = self.learner.updates, monotonic()
        return len(self.batch)


def _full_shard(config: RunConfig, spec: EnvSpec, segments: list[Segment | Packed]) -> tuple[ReplayShard, int]:
    """A full shard of the config's size or less, and by how many bytes this process grew with it."""
    room = min(SHARD_BYTES, inspect().memory_free // 4)
    capacity = min(config.replay.capacity // config.replay.shards, int(room / bytes_per_transition(config, spec)))
    capacity = max(capacity, config.actors.rollout_steps)
    gc.collect()
    empty = psutil.Process().memory_info().rss
    stride = config.agent.sequence.stride
    args = (config.replay, capacity, config.actors.rollout_steps, 0, config.seed, stride)
    place = JournalPlace(str(Path(config.run_dir).with_name("journal")), "")
    shard = JournaledShard(place, *args) if config.replay.journal else ReplayShard(*args)
    for segment in cycle(segments):
        if shard.add(segment).evicted:
            break
    return shard, psutil.Process().memory_info().rss - empty
