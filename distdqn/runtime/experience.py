"""From actors to shards: rollouts are asked for as the limiter allows, and their segments stored."""

from __future__ import annotations

from distdqn.runtime.calls import Call
from distdqn.runtime.engine import Ref
from distdqn.runtime.system import System
from distdqn.types import RolloutStats, ShardStats

MOST_ADDS = 3
"""Tries to store a segment before it is dropped."""


class Experience:
    """Owns the actors and the shards' contents."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._next_shard = self._next_actor = 0
        system.starts("actor", self.start_actor)
        system.starts("shard", self.start_shard)
        system.on("rollout", self._did_rollout, self._lost_rollout)
        system.on("add", self._did_add, self._lost_add)

    def start_actor(self, index: int) -> None:
        """Starts actor `index`, or starts it anew at its place on the exploration ladder."""
        self.system.handles[f"actor-{index}"] = self.system.roster.actor(index)

    def start_shard(self, index: int) -> None:
        """Starts shard `index` empty. Where it takes a dead one's place, learning waits until the shards
        together are filled again."""
        s = self.system
        gone = s.progress.shards.pop(index, None)
        if gone is not None:
            s.progress.count["lost"] += gone.transitions
            s.progress.faults["lost_transitions"] += gone.transitions
            s.limiter.refill(s.progress.transitions)
        s.handles[f"shard-{index}"] = s.roster.shard(index)

    def ask(self) -> None:
        """Asks the actors for as many rollouts as may be in flight and the limiter has room for.

        They take turns: where the limiter has room for few of them, the first places on the exploration ladder
        would play more than the last otherwise.
        """
        s = self.system
        actors = s.config.actors.count
        for depth in range(s.rollouts_ahead):
            for i in [*range(self._next_actor, actors), *range(self._next_actor)]:
                name = f"actor-{i}"
                if s.limiter.room_to_insert() < s.rollout_size:
                    return
                if s.calls.count("rollout", s.handles[name]) <= depth:
                    s.limiter.reserve_insert(s.rollout_size)
                    steps = s.progress.count["env_steps"]
                    s.ask("rollout", name, "rollout", s.weights, steps, returns=2)
                    self._next_actor = (i + 1) % actors

    def _did_rollout(self, call: Call, stats: RolloutStats) -> None:
        self.system.progress.rollout(stats, self.system.version)
        self._add(call.refs[0], stats.transitions, tries=1)

    def _lost_rollout(self, call: Call) -> None:
        s = self.system
        s.limiter.cancel_insert(s.rollout_size)
        if not s.calls.of("weights"):  # they may have been lost with the machine that held them
            s.ask("weights", "learner", "weights")

    def _add(self, segment: Ref, transitions: int, tries: int) -> None:
        index = self._next_shard
        self._next_shard = (index + 1) % self.system.config.replay.shards
        self.system.ask("add", f"shard-{index}", "add", segment, context=(index, segment, transitions, tries))

    def _did_add(self, call: Call, stats: ShardStats) -> None:
        index, _, transitions, _ = call.context
        self.system.progress.shard(index, stats)
        self.system.progress.count["stored"] += transitions
        self.system.limiter.commit_insert(transitions, self.system.rollout_size)

    def _lost_add(self, call: Call) -> None:
        """The segment is still there, since the driver owns it: another shard, or the new one, takes it."""
        _, segment, transitions, tries = call.context
        if tries < MOST_ADDS:
            self._add(segment, transitions, tries + 1)
        else:
            self.system.limiter.cancel_insert(self.system.rollout_size)
            self.system.progress.count["dropped"] += transitions
            self.system.progress.faults["dropped_transitions"] += transitions
