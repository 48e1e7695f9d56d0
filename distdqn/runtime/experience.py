"""From actors to shards: rollouts are asked for as the limiter allows, and their segments stored."""

from collections import Counter, deque
from collections.abc import Callable

from distdqn.runtime.calls import Task
from distdqn.runtime.engine import Handle, NoAnswer
from distdqn.runtime.shards import Shards
from distdqn.runtime.staff import Staff
from distdqn.runtime.system import System
from distdqn.types import RolloutStats

MOST_ADDS = 3
"""Tries to store a segment before it is dropped."""


class Experience:
    """Owns the actors. `publish`: asks for the learner's weights anew."""

    def __init__(self, system: System, shards: Shards, publish: Callable[[], None]) -> None:
        self.system, self.shards, self.publish = system, shards, publish
        self._turns = deque[Handle]()
        """Who may be asked, in this order: a life that joined in, once for each rollout that it may still have."""
        self._owes: Counter[Handle] = Counter()
        """Rollouts of each that are played, or not stored yet."""
        self.going: dict[Handle, float] = {}
        """Who is asked for nothing more, and until when, on the clock of the calls, it is waited for."""
        self._vacant = deque[int]()
        """Places of those who have gone, for others where their number is fixed."""
        self.held = False
        """No actor is started: somebody else needs the room first."""
        self._rollout = "packed_rollout" if system.config.replay.pack else "rollout"
        system.starts("actor", self.start_actor)
        following = system.config.actors.count == "auto"
        self._staff = Staff(system, self.start_actor, self.let_go, self.going) if following else None
        if self._staff:
            system.make_room = self._staff.make_room

    def start(self) -> None:
        """Starts the actors."""
        for i in range(self.system.config.actors.least):  # with count=auto the others follow
            self.start_actor(i)

    def start_actor(self, index: int) -> None:
        """Starts actor `index`, or starts it anew at its place on the exploration ladder."""
        handle = self.system.roster.actor(index)
        self.system.started(handle, self._join(handle))

    def _join(self, handle: Handle) -> Task:
        s = self.system
        yield s.calls.await_start(handle)
        self._turns.extend([handle] * (s.rollouts_ahead - s.calls.count(self._rollout, handle)))

    def ask(self) -> None:
        """Asks the actors for as many rollouts as may be in flight and the limiter has room for. They take turns: where
        the limiter has room for few of them, the first places on the exploration ladder would play more than the last
        otherwise."""
        s = self.system
        self._see_off()
        if self._staff and not self.held:
            self._staff.look()
        while self._vacant and not self.held:
            self.start_actor(self._vacant.popleft())
        if not self._turns or not any(s.joined(f"shard-{i}") for i in range(s.config.replay.shards)):
            return
        while self._turns and s.limiter.room_to_insert() >= s.rollout_size:
            actor = self._turns.popleft()
            if s.handles.get(actor.name) == actor:
                s.begin(self._owed(actor))

    def let_go(self, actor: Handle) -> None:
        """Asks an actor for nothing more: it ends once what it plays has been stored. Another takes its place then,
        where their number is fixed."""
        s = self.system
        del s.handles[actor.name]
        self.going[actor] = s.calls.clock + (s.config.actors.timeout_s if s.calls.has_answered(actor) else 0.0)

    def _see_off(self) -> None:
        """Ends those who owe nothing any more."""
        s = self.system
        for actor, until in list(self.going.items()):
            if s.calls.clock >= until or not self._owes[actor]:
                del self.going[actor], self._owes[actor]
                s.engine.kill(actor)
                if self._staff is None:
                    self._vacant.append(int(actor.name.partition("-")[2]))

    def _owed(self, actor: Handle) -> Task:
        self._owes[actor] += 1
        try:
            yield from self._segment(actor.name)
        finally:
            self._owes[actor] -= 1

    def _segment(self, actor: str) -> Task:
        """The life of a segment: it is played, and stored or, where no shard takes it, dropped."""
        s = self.system
        s.limiter.reserve_insert(s.rollout_size)
        rollout = s.ask(actor, self._rollout, s.weights, s.progress.count["env_steps"], returns=2)
        try:
            stats: RolloutStats = yield rollout
        except NoAnswer:
            self._again(actor)
            s.limiter.commit_insert(0, s.rollout_size)
            self.publish()  # the weights may have been lost with the machine that held them
            return
        self._again(actor)
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

    def _again(self, actor: str) -> None:
        """A rollout has come, or will not: its actor may be asked again, one that was lost when it joins in."""
        if self.system.joined(actor):
            self._turns.append(self.system.handles[actor])
