"""The calls to the components of a run, and how what follows from an answer goes on."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from distdqn.config import RunConfig
from distdqn.replay.limiter import SamplesPerInsert
from distdqn.runtime.calls import Call, Task
from distdqn.runtime.clock import Clock
from distdqn.runtime.components import Components
from distdqn.runtime.engine import ComponentFailed, ComponentLost, DataLost, Engine, Handle, NoAnswer, Ref, StoreFull
from distdqn.runtime.roster import Roster
from distdqn.types import ShardStats

FULL_SECONDS = 1.0
"""Pause of all asking where the object store has no room."""
ARRIVED_SECONDS = 1.0
"""After this time a call has reached its component, where it may still wait for its turn."""
_ABOUT_STATE = {"start", "cut", "add", "sample", "update_priorities", "update", "weights", "state"}
"""Calls whose effect is gone when the component that answered has died since."""


class System(Components):
    """What the flows (`Experience`, `Learning`, `Saving`) share.

    A flow registers who starts its components, and asks them in tasks, which read in the order in which things happen:

        def segment(self):
            rollout = system.ask("actor-0", "rollout", system.weights, returns=2)
            stats = yield rollout                           # its last, small result; or raises `NoAnswer`
            yield system.ask("shard-0", "add", rollout.refs[0])

        system.starts("actor", self.start_actor)
        system.begin(self.segment())

    A task goes on within `answer` until it waits again; nothing else happens meanwhile.

    Attributes:
        mass: sampling mass of each shard, 0 before it has answered.
        weights: reference to the newest published weights. version: updates that the learner has made.
    """

    def __init__(
        self,
        config: RunConfig,
        engine: Engine,
        roster: Roster,
        event: Callable[[str], None],
        fault: Callable[[str, str], None],
        wall: Clock = time,
    ) -> None:
        super().__init__(config, engine, event, fault, wall)
        self.roster, self.lockstep = roster, config.engine.lockstep
        actors, learner = config.actors, config.learner
        self.rollout_size = actors.rollout_steps * actors.envs_per_actor
        self.draws_ahead = 1 if self.lockstep else learner.in_flight + 1
        self.rollouts_ahead = 1 if self.lockstep else actors.in_flight
        self.limiter = SamplesPerInsert(
            learner.samples_per_insert,
            config.replay.min_size,
            self.rollout_size,
            learner.batch_size * learner.updates_per_call * config.agent.sequence.length,
            insert_depth=actors.places * self.rollouts_ahead,
            sample_depth=self.draws_ahead,
        )
        self.mass = np.zeros(config.replay.shards)
        self.weights: Ref = None
        self.version = 0
        self.asks_at = 0.0
        """On the clock of the calls: nothing is asked before, since the object store was full."""

    def ask(self, name: str, method: str, *args: Any, returns: int = 1) -> Call:
        """Asks the component `name` for `method(*args)`."""
        return self.calls.ask(self.handles[name], method, *args, returns=returns)

    def started(self, handle: Handle, join: Task | None = None) -> None:
        """Takes in a new life of a component; it joins in once it has been made, of which `join` is told."""
        self.handles[handle.name] = handle
        self.begin(join or self._join(handle))

    def _join(self, handle: Handle) -> Task:
        yield self.calls.await_start(handle)

    def begin(self, task: Task) -> None:
        """Runs a task until it waits for an answer."""
        call = next(task, None)
        if call is not None:
            call.task = task

    def answer(self, call: Call) -> None:
        """Takes the answer of a call that is ready, or finds out that there is none, and goes on with its task."""
        name = call.handle.name
        call.answered = True
        try:
            call.value = self._fetch(call)
            if call.method in _ABOUT_STATE and self.handles.get(name) != call.handle:
                raise ComponentLost(f"{name} has died since")
            self.watch.answered(call)
            if isinstance(call.value, ShardStats):
                self._shard(name, call.value)
        except ComponentLost as error:
            call.error = error
            self.replace(call.handle, str(error))
        except ComponentFailed as error:
            call.error = error
            self.failed(call, error)
        except StoreFull as error:
            call.error = error
            self.asks_at = self.calls.clock + FULL_SECONDS
            self.progress.faults["store_full"] += 1
            if self.progress.faults["store_full"] == 1:
                self.event(f"the object store is full, goes on with pauses: {error}")
        except DataLost as error:
            call.error = error
            self.event(f"{call.method}: {error}")
        if call.task is not None:
            self._go_on(call.task, call)

    def _shard(self, name: str, stats: ShardStats) -> None:
        index = int(name.partition("-")[2])
        known = self.progress.shards.get(index)
        if stats.trouble and (known is None or known.trouble != stats.trouble):
            self.event(f"{name}: {stats.trouble}")
        self.progress.shard(index, stats)
        self.mass[index] = stats.mass

    def _go_on(self, task: Task, call: Call) -> None:
        while call.answered:  # a task may ask for several at once, and then wait for one after the other
            value, error = call.value, call.error
            call.value = call.error = None  # large, or with a traceback to all that is large
            try:
                call = task.send(value) if error is None else task.throw(error)
            except StopIteration:
                return
            except NoAnswer as uncaught:
                if uncaught is not error:
                    raise
                return
        call.task = task

    def _fetch(self, call: Call) -> Any:
        """The answer; only in lockstep it need not be there yet."""
        try:
            return self.engine.fetch(call.refs[-1], self.watch.patience(call) if self.lockstep else None)
        except TimeoutError as error:
            self.engine.kill(call.handle)
            raise ComponentLost(f"{call.handle.name}.{call.method}: {error}") from None

    def cancel(self, method: str) -> None:
        """Takes back the calls of `method` that have not begun and were not asked just now: where one is taken back
        whose arguments Ray is still looking for, the component never answers anything again. To be repeated."""
        for call in self.calls.of(method):
            if not call.taken_back and self.calls.clock - call.asked > ARRIVED_SECONDS:
                call.taken_back = True
                self.engine.cancel(call.refs[-1])

    def drain(self) -> None:
        """Answers every call in the order in which it was asked, those that this brings about too."""
        while len(self.calls):
            self.answer(self.calls.oldest())
