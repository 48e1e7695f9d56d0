"""Each component on its own, in this process: emulators, inference, acting, adding, sampling, learning."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any

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
from distdqn.replay.shard import ReplayShard
from distdqn.runtime.preflight import bytes_per_transition
from distdqn.types import Batch, EnvSpec, Priorities, Segment, Weights, named_arrays

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
    it was filled. `batch` is what one call of the learner is fed, `segment` one rollout.
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
    segment: Segment

    @property
    def sample_bytes(self) -> float:
        """Bytes of a sampled window on its way."""
        return size_of(self.batch) / len(self.batch)

    @property
    def transition_bytes(self) -> float:
        """Bytes of a transition on its way to a shard."""
        return size_of(self.segment) / max(1, int(self.segment.valid.sum()))


def measure_stages(config: RunConfig, spec: EnvSpec, seconds: float) -> Stages:
    """Measures every component of `config`, `seconds` each, in turns."""
    actor = Actor(config.env, config.agent, config.actors, 0, config.seed)
    play, segments = _acting(actor, config)
    shard, rss_growth = _full_shard(config, spec, segments)
    full = shard.stats()
    learner = Learner(config.agent, config.learner, spec, config.seed)
    threads = config.actors.threads
    draw, update = _drawing(shard, config)
    batch = draw()
    emulate, infer = _emulators(config), _inference(config, spec)
    works = {
        "emulators": Work(emulate, threads),
        "inference": Work(infer, threads),
        "in_turn": Work(lambda: infer() and emulate(), threads),
        "act": Work(lambda: play()[1], threads),
        "add": Work(_adding(shard, segments)),
        "sample": Work(lambda: len(draw())),
        "learn": Work(lambda: _learn(learner, batch), config.learner.threads),
    }
    if config.replay.kind == "prioritized":  # else no priorities are sent
        works["priority"] = Work(update)
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
        rss_growth=rss_growth,
        device=learner.device.type,
        batch=batch,
        segment=segments[0],
    )


def size_of(record: Any) -> int:
    """Bytes of a record's arrays."""
    return sum(a.nbytes for a in named_arrays(record).values())


def _emulators(config: RunConfig) -> Callable[[], int]:
    slots = config.actors.envs_per_actor
    env = make_env(config.env, slots, config.actors.threads, config.seed)
    rng = np.random.default_rng(config.seed)
    env.reset()
    last = np.zeros(slots, bool)

    def step() -> int:
        nonlocal last
        played = slots - int(last.sum())  # after `last` comes a dummy, which is not a step
        last = env.step(rng.integers(env.spec.num_actions, size=slots)).last
        return played

    return step


def _inference(config: RunConfig, spec: EnvSpec) -> Callable[[], int]:
    slots = config.actors.envs_per_actor
    policy = Policy(config.agent, spec, slots)
    shape = (spec.stack, slots, *spec.frame_shape) if spec.pixels else (slots, *spec.frame_shape)
    rng = np.random.default_rng(config.seed)
    observations = cycle([(rng.random(shape) * 255).astype(spec.frame_dtype) for _ in range(8)])
    age = np.full(slots, 1000, np.int32)

    def infer() -> int:
        policy.q_values(next(observations), age)
        return slots

    return infer


def _acting(actor: Actor, config: RunConfig) -> tuple[Callable[[], tuple[Segment, int]], list[Segment]]:
    """A function that plays a rollout with weights that it has not seen, as each is in a run, and gives the
    segments and the agent steps; and some such segments."""
    arrays = actor.policy.network.arrays()
    versions: Iterator[int] = count()

    def play() -> tuple[Segment, int]:
        segment, stats = actor.rollout(Weights(next(versions), arrays))
        return segment, stats.steps

    play()  # its first window starts lie before the streams began
    return play, [play()[0] for _ in range(4)]


def _full_shard(config: RunConfig, spec: EnvSpec, segments: list[Segment]) -> tuple[ReplayShard, int]:
    """A full shard of the config's size or less, and by how many bytes this process grew with it."""
    room = min(SHARD_BYTES, inspect().memory_free // 4)
    capacity = min(config.replay.capacity // config.replay.shards, int(room / bytes_per_transition(config, spec)))
    capacity = max(capacity, config.actors.rollout_steps)
    gc.collect()
    empty = psutil.Process().memory_info().rss
    stride = config.agent.sequence.stride
    shard = ReplayShard(config.replay, capacity, config.actors.rollout_steps, 0, config.seed, stride)
    for segment in cycle(segments):
        if shard.add(segment).evicted:
            break
    return shard, psutil.Process().memory_info().rss - empty


def _adding(shard: ReplayShard, segments: list[Segment]) -> Callable[[], int]:
    source = cycle([(s, int(s.valid.sum())) for s in segments])

    def add() -> int:
        segment, transitions = next(source)
        shard.add(segment)
        return transitions

    return add


def _drawing(shard: ReplayShard, config: RunConfig) -> tuple[Callable[[], Batch], Callable[[], int]]:
    """A function that draws what one call of the learner is fed, and one that updates the priorities of what was
    drawn last."""
    sizes = (config.learner.batch_size,) * config.learner.updates_per_call
    rng = np.random.default_rng(config.seed)
    latest: list[Batch] = []

    def draw() -> Batch:
        latest[:] = [shard.sample(sizes, config.replay.beta)[0]]
        return latest[0]

    def update() -> int:
        key = latest[0].key
        shard.update_priorities(Priorities(key, rng.random(len(key), np.float32)))
        return len(key)

    return draw, update


def _learn(learner: Learner, batch: Batch) -> int:
    learner.update(0.0, batch)
    return len(batch)
