"""From actors to shards: rollouts are asked for as the limiter allows, and their segments stored."""

from collections.abc import Callable

from distdqn.runtime.calls import Task
from distdqn.runtime.engine import NoAnswer
from distdqn.runtime.shards import Shards
from distdqn.runtime.system import System
from distdqn.types import RolloutStats

MOST_ADDS = 3
"""Tries to store a segment before it is dropped."""


class Experience:
    """Owns the actors. `publish`: asks for the learner's weights anew."""

    def __init__(self, system: System, shards: Shards, publish: Callable[[], None]) -> None:
        self.system, self.shards, self.publish = system, shards, publish
        self._next_actor = 0
        self._rollout = "packed_rollout" if system.config.replay.pack else "rollout"
        system.starts("actor", self.start_actor)

    def start_actor(self, index: int) -> None:
        """Starts actor `index`, or starts it anew at its place on the exploration ladder."""
        self.system.started(self.system.roster.actor(index))

    def ask(self) -> None:
        """Asks the actors for as many rollouts as may be in flight and the limiter has room for. They take turns: where
        the limiter has room for few of them, the first places on the exploration ladder would play more than the last
        otherwise."""
        s = self.system
        actors = s.config.actors.count
        if not any(s.joined(f"shard-{i}") for i in range(s.config.replay.shards)):
            return
        for depth in range(s.rollouts_ahead):
            for i in [*range(self._next_actor, actors), *range(self._next_actor)]:
                if s.limiter.room_to_insert() < s.rollout_size:
                    return
                actor = f"actor-{i}"
                if s.joined(actor) and s.calls.count(self._rollout, s.handles[actor]) <= depth:
                    s.begin(self._segment(actor))
                    self._next_actor = (i + 1) % actors

    def _segment(self, actor: str) -> Task:
        """The life of a segment: it is played, and stored or, where no shard takes it, dropped."""
        s = self.system
        s.limiter.reserve_insert(s.rollout_size)
        rollout = s.ask(actor, self._rollout, s.weights, s.progress.count["env_steps"], returns=2)
        try:
            stats: RolloutStats = yield rollout
        except NoAnswer:
            s.limiter.commit_insert(0, s.rollout_size)
            self.publish()  # the weights may have been lost with the machine that held them
            return
        s.progress.rollout(stats, s.version)
        index = self.shards.turn()
        for _ in range(MOST_ADDS):
            try:
                yield from self.shards.change(index, "add", rollout.refs[0])
            except (
                NoAnswer
            ):  # the driver owns the segment, so it is still there: another shard, or the new one, takes it
                index = index if s.lockstep else self.shards.turn()
                continue
            s.progress.count["stored"] += stats.transitions
            s.limiter.commit_insert(stats.transitions, s.rollout_size)
            return
        s.limiter.commit_insert(0, s.rollout_size)
        s.progress.count["dropped"] += stats.transitions
        s.progress.faults["dropped_transitions"] += stats.transitions
